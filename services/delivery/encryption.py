"""How to encrypt towards exchangers: verified where possible, tolerant otherwise, in clear only if TLS cannot be had.

What a host's TLS cannot do is learnt from failures and remembered for a while (RFC 7435: opportunistic security).
MTA-STS and DANE policies, once they exist, decide here too.
"""

import asyncio
import ssl
import warnings

UNVERIFIED_SECONDS = 3600.0
"""How long it is remembered that an exchanger's certificate cannot be verified."""
BROKEN_SECONDS = 60.0
"""How long an exchanger whose STARTTLS failed is spoken to in clear; short, for TLS is tried whenever it may work."""
REMEMBERED_HOSTS = 10_000


class Encryption:
    """Contexts for handshakes, and what is remembered of hosts."""

    def __init__(self) -> None:
        self._verifying = ssl.create_default_context()
        self._tolerant = _tolerant()
        self._unverifiable: dict[str, float] = {}
        self._broken: dict[str, float] = {}

    def context(self, host: str) -> ssl.SSLContext | None:
        """Return how to encrypt towards a host: verifying if that may work, else tolerant; None if TLS is broken."""
        now = asyncio.get_running_loop().time()
        if self._broken.get(host, 0) > now:
            return None
        return self._tolerant if self._unverifiable.get(host, 0) > now else self._verifying

    def verifies(self, context: ssl.SSLContext) -> bool:
        """Return whether a handshake with this context proves the exchanger's name."""
        return context is self._verifying

    def unverifiable(self, host: str) -> None:
        """Remember that a host cannot be verified."""
        _remember(self._unverifiable, host, UNVERIFIED_SECONDS)

    def broken(self, host: str) -> None:
        """Remember that a host's STARTTLS does not work."""
        _remember(self._broken, host, BROKEN_SECONDS)


def _remember(known: dict[str, float], host: str, seconds: float) -> None:
    if len(known) >= REMEMBERED_HOSTS:
        known.clear()
    known[host] = asyncio.get_running_loop().time() + seconds


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
