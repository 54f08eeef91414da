"""DKIM keys of the configurations, unsealed when needed and kept while unchanged; puts the signatures in front."""

import asyncio
import logging
from collections import OrderedDict

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from services.delivery.core import dkim
from services.delivery.core.keys import KeyChoice, chosen
from services.delivery.gates import Gates
from shared.bus.replica import Replica
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
    private: dkim.PrivateKey
    domain: str
    selector: str


class Signer:
    """Signs for every configuration; follows changes of the bucket `keys` through its replica."""

    def __init__(self, keys: Replica[DkimKey], master_key: bytes, gates: Gates) -> None:
        self._keys = keys
        self._master_key = master_key
        self._gates = gates
        self._kept: OrderedDict[str, _Key] = OrderedDict()

    async def signed(self, mail: bytes, configuration: str, now_seconds: int) -> bytes:
        """Return the mail with its signatures in front.

        Errors: `NoKey`; `dkim.NotSignable` for a mail without From.
        """
        keys = self._keys_of(configuration)
        if len(mail) > THREAD_BYTES:
            fields = await asyncio.to_thread(_sign, mail, keys, now_seconds)
        else:
            fields = _sign(mail, keys, now_seconds)
        return fields + mail

    def _keys_of(self, configuration: str) -> list[_Key]:
        """Return the keys to sign with; one that is missing or no longer meant gives way to another."""
        record, standing = self._gates.configuration(configuration), self._gates.standing.get(configuration)
        choice = chosen(configuration, record, standing)
        main = next((key for each in choice.main if (key := self._found(each)) is not None), None)
        if main is None:
            raise NoKey(f"configuration {configuration} has no DKIM key that can be opened")
        return [main, *(key for each in choice.beside if (key := self._found(each)) is not None)]

    def _found(self, choice: KeyChoice) -> _Key | None:
        record = self._keys.get(choice.name)
        if record is None or choice.selector not in ("", record.selector):
            return None
        revision = self._keys.revision(choice.name)
        kept = self._kept.get(choice.name)
        if kept is not None and kept.revision == revision:
            self._kept.move_to_end(choice.name)
            return kept
        try:
            private = load_der_private_key(unseal(self._master_key, record.sealed, choice.name), None)
        except (SealBroken, ValueError, TypeError) as fault:
            log.error("a DKIM key cannot be used: %s", fault, extra={"configuration": record.configuration})
            return None
        if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
            log.error("a DKIM key is of no known kind", extra={"configuration": record.configuration})
            return None
        key = _Key(revision, private, record.domain, record.selector)
        self._kept[choice.name] = key
        if len(self._kept) > KEYS_KEPT:
            self._kept.popitem(last=False)
        return key


def _sign(mail: bytes, keys: list[_Key], now_seconds: int) -> bytes:
    prepared = dkim.prepare(mail)  # the work that grows with the mail is done once
    return b"".join(
        dkim.signature(prepared, key=key.private, domain=key.domain, selector=key.selector, now_seconds=now_seconds)
        for key in keys
    )
