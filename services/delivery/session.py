"""An SMTP session with an exchanger: aiosmtplib for connection, TLS and capabilities, extended in this one file.

What is added: the connection goes to a validated address, time limits per phase, and a DATA that knows whether the
final dot has been sent, stops before it when told to, and feels back-pressure.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol

CHUNK_BYTES = 1 << 16


class Reply(NamedTuple):
    """A server's reply; code -1 if it could not be read."""

    code: int
    text: str


class Stopped(Exception):
    """The final dot was not sent because the caller no longer held the message."""


class Limits(NamedTuple):
    """Time limits in seconds (RFC 5321 §4.5.3.2)."""

    connect: float
    command: float
    write: float
    final: float


class Session(aiosmtplib.SMTP):
    """One session; closed by whoever made it. Every method raises `aiosmtplib.SMTPException` when the line fails."""

    def __init__(self, ehlo_name: str, limits: Limits) -> None:
        super().__init__(local_hostname=ehlo_name, timeout=limits.command, start_tls=False)
        self.limits = limits
        self.tls = ""
        self.dot_sent = False

    async def dial(self, address: str, port: int, source: str = "") -> None:
        """Make the TCP connection to an address (never a name), from `source` if it is given.

        Errors: `OSError`, `TimeoutError`.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if source:
                sock.bind((source, 0))
            async with asyncio.timeout(self.limits.connect):
                await loop.sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    async def greeting(self) -> None:
        """Read the greeting; anything but 220 raises `aiosmtplib.SMTPResponseException`."""
        await self.connect(timeout=self.limits.command)

    def close(self) -> None:
        """Close the connection, also one that never came to a greeting."""
        if self.sock is not None and self.transport is None:
            self.sock.close()
        super().close()

    async def hello(self) -> None:
        """Say EHLO, or HELO to a server that does not know it (RFC 5321 §3.2)."""
        try:
            await self.ehlo()
        except aiosmtplib.SMTPHeloError as fault:
            if fault.code not in (500, 501, 502, 504, 550) or not self.is_connected:
                raise
            await self.helo()

    async def encrypt(self, host: str, context: ssl.SSLContext) -> None:
        """Start TLS and say EHLO again (RFC 3207 §4.2)."""
        await self.starttls(server_hostname=host.rstrip("."), tls_context=context, timeout=self.limits.command)
        tls = self.get_transport_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        self.tls = f"{tls.version()} {cipher[0]}" if tls is not None and cipher else "TLS"
        await self.hello()

    @property
    def size_limit(self) -> int | None:
        """The largest message the server takes, if it says so (RFC 1870 §4); None: unknown or unlimited."""
        value = self.esmtp_extensions.get("size", "").strip()
        return int(value) if value.isdigit() and int(value) > 0 else None

    async def command(self, *words: bytes) -> Reply:
        """Send a command and return the reply, code -1 for one that cannot be read (the session is then closed)."""
        try:
            response = await self.execute_command(*words)
        except aiosmtplib.SMTPResponseException as fault:
            self.close()  # what follows could not be paired with our commands any more
            return Reply(-1, str(fault.message))
        return Reply(response.code, response.message)

    async def content(self, mail: bytes, may_finish: Callable[[], bool], on_dot: Callable[[], None]) -> Reply:
        """Send the octets of a mail after a 354 reply, and the final dot; return the reply to it.

        `may_finish` is asked just before the dot; if it says no, the session is cut and `Stopped` raised. `on_dot` is
        called at the moment from which on the server may have the message.
        """
        protocol = self.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        stuffed = stuff(mail)
        try:
            for start in range(0, len(stuffed), CHUNK_BYTES):
                protocol.write(stuffed[start : start + CHUNK_BYTES])
                await self._drained(protocol)
            if not may_finish():
                raise Stopped("the hold on the message ran out before the final dot")
            on_dot()
            self.dot_sent = True
            protocol.write(b".\r\n")
            response = await protocol.read_response(timeout=self.limits.final)
        except aiosmtplib.SMTPResponseException as fault:
            self.close()
            return Reply(-1, str(fault.message))
        except BaseException:
            self._abort()
            raise
        return Reply(response.code, response.message)

    def leave(self) -> None:
        """Say QUIT without waiting for the answer, and close."""
        if self.protocol is not None and self.is_connected:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, RuntimeError):
                self.protocol.write(b"QUIT\r\n")
        self.close()

    async def _drained(self, protocol: SMTPProtocol) -> None:
        try:
            async with asyncio.timeout(self.limits.write):
                await protocol._drain_helper()
        except TimeoutError as fault:
            raise aiosmtplib.SMTPTimeoutError("the server stopped reading the message") from fault
        except ConnectionError as fault:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost") from fault

    def _abort(self) -> None:
        """Cut the connection at once, so that nothing still buffered is sent."""
        abort = getattr(self.transport, "abort", None)
        if abort is not None:
            abort()
        self.close()


def stuff(mail: bytes) -> bytes:
    """Double dots at line starts and end the last line (RFC 5321 §4.5.2). Every line of the mail ends in CRLF."""
    if not mail.endswith(b"\r\n"):
        mail += b"\r\n"
    if mail.startswith(b"."):
        mail = b"." + mail
    return mail.replace(b"\r\n.", b"\r\n..")


def stray_line_end(mail: bytes) -> bool:
    """Return whether a CR or LF stands alone: such a mail must not be sent, it could smuggle another one."""
    pairs = mail.count(b"\r\n")
    return mail.count(b"\n") != pairs or mail.count(b"\r") != pairs
