"""The certificate a server shows, taken up anew when its files change; ingress and the management API use it."""

import asyncio
import logging
import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from shared.contract.errors import SettingsFault
from shared.runtime import clock

log = logging.getLogger("certificate")

WARNING = timedelta(days=30)
"""Life left from which on each look at a new certificate, and each start, raises an alarm."""

# Mozilla's intermediate set for TLS 1.2; TLS 1.3 has its own.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make a context for TLS 1.2 and 1.3. Raises `OSError` or `ssl.SSLError` if the files cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0  # no session is resumed into another tenant's
    # Without a passphrase OpenSSL would ask for one at the terminal, and everything would wait for the answer.
    context.load_cert_chain(certificate, key, password="")
    return context


class Certificate:
    """The present context; a new one replaces it for new handshakes only, and only if it can be used."""

    def __init__(self, certificate: Path, key: Path, room: str) -> None:
        """Load the files; `room` names the settings they come from. Raises `SettingsFault`."""
        self._files = certificate, key
        self._seen = _stamp(self._files)
        try:
            self.context = server_context(certificate, key)
            self._look_at_expiry()
        except (OSError, ValueError) as fault:
            why = getattr(fault, "strerror", None) or fault
            raise SettingsFault(
                f"the TLS certificate {certificate} or its key {key} cannot be used: {why}; "
                f"set POSTLANE_{room}_TLS_CERTIFICATE_FILE and POSTLANE_{room}_TLS_KEY_FILE to matching PEM files"
            ) from fault

    @property
    def files(self) -> tuple[Path, Path]:
        """The files of the certificate and of its key."""
        return self._files

    async def follow(self, interval_seconds: float) -> None:
        """Look for changed files for ever."""
        while True:
            await asyncio.sleep(interval_seconds)
            self.refresh()

    @property
    def expires(self) -> datetime:
        """When the present certificate ends."""
        return self._expires

    def _look_at_expiry(self) -> None:
        self._expires = x509.load_pem_x509_certificate(self._files[0].read_bytes()).not_valid_after_utc
        left = self._expires - clock.now()
        if left < WARNING:
            log.error("the TLS certificate ends on %s, renew it", self._expires.date())

    def refresh(self) -> bool:
        """Take up changed files now; return whether there is a new certificate. The old one stays on a fault."""
        stamp = _stamp(self._files)
        if stamp == self._seen:
            return False
        try:
            context = server_context(*self._files)
            self._look_at_expiry()
        except (OSError, ValueError) as fault:
            log.error("the new TLS certificate cannot be used, the old one stays: %s", fault)
            return False
        self.context = context
        self._seen = stamp
        log.info("a new TLS certificate is in use")
        return True


def _stamp(files: tuple[Path, ...]) -> tuple[tuple[int, int, int], ...]:
    stamps = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)
