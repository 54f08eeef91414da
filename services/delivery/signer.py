"""DKIM keys of the configurations, unsealed when needed and kept while unchanged; puts the signature in front."""

import asyncio
import logging
from collections import OrderedDict

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from services.delivery.core import dkim
from shared.bus.kv import Replica
from shared.contract.records import DkimKey
from shared.runtime.sealing import SealBroken, unseal

log = logging.getLogger("delivery")

KEYS_KEPT = 5000
THREAD_BYTES = 256 << 10
"""Mails above this are canonicalised in a thread, so that one does not hold up all others."""


class NoKey(Exception):
    """There is no key that can be used: a fault of ours, the mail waits."""


class _Key(msgspec.Struct, frozen=True):
    revision: int
    private: RSAPrivateKey
    domain: str
    selector: str


class Signer:
    """Signs for every configuration; follows changes of the bucket `keys` through its replica."""

    def __init__(self, keys: Replica[DkimKey], master_key: bytes) -> None:
        self._keys = keys
        self._master_key = master_key
        self._kept: OrderedDict[str, _Key] = OrderedDict()

    async def signed(self, mail: bytes, configuration: str, now_seconds: int) -> bytes:
        """Return the mail with its signature in front.

        Errors: `NoKey`; `dkim.NotSignable` for a mail without From.
        """
        key = self._key(configuration)
        if len(mail) > THREAD_BYTES:
            field = await asyncio.to_thread(_sign, mail, key, now_seconds)
        else:
            field = _sign(mail, key, now_seconds)
        return field + mail

    def _key(self, configuration: str) -> _Key:
        name = f"dkim.{configuration}"
        record = self._keys.get(name)
        if record is None:
            raise NoKey(f"configuration {configuration} has no DKIM key")
        revision = self._keys.revision(name)
        kept = self._kept.get(configuration)
        if kept is not None and kept.revision == revision:
            self._kept.move_to_end(configuration)
            return kept
        try:
            der = unseal(self._master_key, record.sealed, name)
            private = load_der_private_key(der, None)
        except (SealBroken, ValueError, TypeError) as fault:
            log.error("the DKIM key cannot be used: %s", fault, extra={"configuration": configuration})
            raise NoKey(f"the DKIM key of configuration {configuration} cannot be opened") from fault
        if not isinstance(private, RSAPrivateKey):
            raise NoKey(f"the DKIM key of configuration {configuration} is not RSA")
        key = _Key(revision, private, record.domain, record.selector)
        self._kept[configuration] = key
        if len(self._kept) > KEYS_KEPT:
            self._kept.popitem(last=False)
        return key


def _sign(mail: bytes, key: _Key, now_seconds: int) -> bytes:
    return dkim.sign(mail, key=key.private, domain=key.domain, selector=key.selector, now_seconds=now_seconds)
