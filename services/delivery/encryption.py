"""How to encrypt towards exchangers: verified where possible, tolerant otherwise, in clear only if TLS cannot be had.

What a host's TLS cannot do is learnt from failures and remembered for a while (RFC 7435: opportunistic security).
Where a policy demands it (`core.sts`; DANE would be the next) nothing of that counts: verified, or not at all.
"""

import asyncio
import ssl
import warnings
from typing import NamedTuple

UNVERIFIED_SECONDS = 3600.0
"""How long it is remembered that an exchanger's certificate cannot be verified."""
BROKEN_SECONDS = 60.0
"""How long an exchanger whose STARTTLS failed is spoken to in clear; short, for TLS is tried whenever it may work."""
REMEMBERED_HOSTS = 10_000


class Encryption:
    """Contexts for handshakes, and what is remembered of hosts."""

    def __init__(self) -> None:
        self._verifying = verifying()
        self._tolerant = _tolerant()
        self._unverifiable: dict[str, _Memory] = {}
        self._broken: dict[str, _Memory] = {}

    def context(self, host: str, *, strict: bool = False, tolerant: bool = False) -> ssl.SSLContext | None:
        """Return how to encrypt towards a host: verifying if that may work, else tolerant; None if TLS is broken.

        `strict`: verifying, whatever is remembered. `tolerant`: verifying has just failed.
        """
        if strict:
            return self._verifying
        if _remembered(self._broken, host):
            return None
        return self._tolerant if tolerant or _remembered(self._unverifiable, host) else self._verifying

    def problem(self, host: str) -> str:
        """Return what is remembered of a host's TLS, as a clause, "" if nothing is."""
        return _remembered(self._broken, host) or _remembered(self._unverifiable, host)

    def verifies(self, context: ssl.SSLContext) -> bool:
        """Return whether a handshake with this context proves the exchanger's name."""
        return context is self._verifying

    def unverifiable(self, host: str, why: str) -> None:
        """Remember that a host cannot be verified."""
        _remember(self._unverifiable, host, UNVERIFIED_SECONDS, why)

    def interrupted(self, host: str, why: str) -> None:
        """Remember for a short while that a connection was lost in a handshake: by chance, or for what was proposed."""
        _remember(self._unverifiable, host, BROKEN_SECONDS, why)

    def broken(self, host: str, why: str) -> None:
        """Remember that a host's STARTTLS does not work."""
        _remember(self._broken, host, BROKEN_SECONDS, why)


def verifying() -> ssl.SSLContext:
    """Return a context that verifies whom it talks to, by the names a certificate is meant for and by no other."""
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False  # RFC 8461 §4.1: a DNS-ID among the subject's alternative names
    return context


class _Memory(NamedTuple):
    until: float
    why: str


def _remember(known: dict[str, _Memory], host: str, seconds: float, why: str) -> None:
    if len(known) >= REMEMBERED_HOSTS:
        known.clear()
    known[host] = _Memory(asyncio.get_running_loop().time() + seconds, why)


def _remembered(known: dict[str, _Memory], host: str) -> str:
    memory = known.get(host)
    return memory.why if memory is not None and memory.until > asyncio.get_running_loop().time() else ""


def _tolerant() -> ssl.SSLContext:
    """Return a context that encrypts with whatever the other side can do: better than in clear (RFC 7435 §3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old on purpose
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context
