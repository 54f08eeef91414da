"""An SMTP session with an exchanger: aiosmtplib for connection, TLS and capabilities, extended here and in `line`.

What is added: the connection goes to a validated address, time limits per phase, commands in one write where the
server allows it (RFC 2920), reuse, and a DATA that knows whether the final dot has been sent, stops before it when told
to, and feels back-pressure.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import NamedTuple

import aiosmtplib
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from services.delivery.core.lines import stuff
from services.delivery.core.offer import Offer
from services.delivery.line import Line
from shared.runtime import clock

CHUNK_BYTES = 1 << 16
SOON_SECONDS = 5.0
"""How long the rest of the replies to a transaction without recipients is waited for."""
NAMELESS = "localhost"
"""What a server without a usable name is called in a handshake that verifies nothing."""
_SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 §3


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


MayFinish = Callable[[], Awaitable[bool]]
"""Asked just before a final dot: whether it may be sent."""


class Session(aiosmtplib.SMTP):
    """One session; closed by whoever made it. Every method raises `aiosmtplib.SMTPException` when the line fails."""

    def __init__(self, ehlo_name: str, limits: Limits) -> None:
        super().__init__(local_hostname=ehlo_name, timeout=limits.command, start_tls=False)
        self.limits = limits
        self.offer = Offer()
        """What the server said it offers, last."""
        self.tls = ""
        self.tls_verified = False
        self.tls_problem = ""
        """Why it is not verified, as a clause."""
        self.transactions = 0
        """Those that ended in order: the final dot was answered, or nobody was accepted."""
        self.refusals = 0
        """Commands that were refused; servers lose patience with a session that has many."""
        self.spoilt = False
        """The last transaction was not finished: the next one begins with RSET."""

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
        size = self.esmtp_extensions.get("size", "").strip()
        limit = int(size) or None if _SIZE.fullmatch(size) else None  # RFC 1870 §4: 0 is no limit
        self.offer = Offer(frozenset(self.esmtp_extensions), limit)

    async def encrypt(self, host: str, context: ssl.SSLContext) -> None:
        """Start TLS and say EHLO again (RFC 3207 §4.2)."""
        if not _SERVER_NAME.fullmatch(host):  # from a stranger's DNS, where a name may hold any octets
            if context.check_hostname:
                raise aiosmtplib.SMTPException(f"no certificate can have the name {host}")
            host = NAMELESS
        await self.starttls(server_hostname=host.rstrip("."), tls_context=context, timeout=self.limits.command)
        tls = self.get_transport_info("ssl_object")
        cipher = tls.cipher() if tls is not None else None
        self.tls = f"{tls.version()} {cipher[0]}" if tls is not None and cipher else "TLS"
        await self.hello()

    @property
    def reusable(self) -> bool:
        """Whether another transaction can begin on it."""
        return self.is_connected and isinstance(self.protocol, Line) and not self.protocol.disturbed

    def send(self, commands: Sequence[bytes]) -> list[Coroutine[None, None, Reply]]:
        """Send commands; return their replies, to be awaited in order.

        All go out at once if the server knows PIPELINING, else each when its reply is awaited. A reply that cannot be
        read has the code -1, and the session is then closed.
        """
        if not self.supports_extension("pipelining"):
            return [self._one(command) for command in commands]
        protocol = self._line()
        futures = protocol.expect(len(commands))
        protocol.write(b"".join(command + b"\r\n" for command in commands))
        return [self._reply(future, self.limits.command) for future in futures]

    async def _one(self, command: bytes) -> Reply:
        protocol = self._line()
        (future,) = protocol.expect(1)
        protocol.write(command + b"\r\n")
        return await self._reply(future, self.limits.command)

    async def _reply(self, future: asyncio.Future[SMTPResponse], seconds: float) -> Reply:
        # Most replies to commands sent together are here at once.
        timer = None if future.done() else clock.limit(future, seconds)
        try:
            response = await future
        except TimeoutError as fault:
            self.abort()  # a late reply must not be taken for that of another command
            raise aiosmtplib.SMTPTimeoutError("Timed out waiting for server response") from fault
        except aiosmtplib.SMTPResponseException as fault:
            self.abort()
            return Reply(-1, str(fault.message))
        finally:
            if timer is not None:
                timer.cancel()
        if response.code == 421:  # RFC 5321 §3.8: the server is closing
            self.abort()
        self.refusals += response.code >= 400
        return Reply(response.code, response.message)

    def _line(self) -> Line:
        if not isinstance(self.protocol, Line):
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        return self.protocol

    async def _create_connection(self, timeout: float | None) -> SMTPResponse:  # noqa: ASYNC109 - its signature
        """Replace aiosmtplib's way to connect: on the socket that was dialled, with `Line` as its protocol."""
        loop = asyncio.get_running_loop()
        line = Line(loop, self._on_connection_lost)
        sock, self.sock = self.sock, None
        transport, _ = await loop.create_connection(lambda: line, sock=sock)
        self.protocol, self.transport = line, transport
        response = await line.read_response(timeout=timeout)
        if response.code != 220:
            raise aiosmtplib.SMTPConnectResponseError(response.code, response.message)
        return response

    async def content(self, mail: bytes, may_finish: MayFinish, on_dot: Callable[[], None]) -> Reply:
        """Send the octets of a mail after a 354 reply, and the final dot; return the reply to it.

        `may_finish` is asked just before the dot; if it says no, the session is cut and `Stopped` raised. `on_dot` is
        called at the moment from which on the server may have the message.
        """
        protocol = self._line()
        stuffed = stuff(mail)
        try:
            last = max(0, len(stuffed) - 1) // CHUNK_BYTES * CHUNK_BYTES
            for start in range(0, last, CHUNK_BYTES):
                protocol.write(stuffed[start : start + CHUNK_BYTES])
                await self._drained(protocol)
            if not await may_finish():
                raise Stopped("the hold on the message ran out before the final dot")
            if not self.is_connected:  # cut meanwhile: the dot is certainly not sent
                raise aiosmtplib.SMTPServerDisconnected("Connection lost")
            on_dot()
            (future,) = protocol.expect(1)
            protocol.write(stuffed[last:] + b".\r\n")  # one write, and for most mails the only one
            reply = await self._reply(future, self.limits.final)
        except aiosmtplib.SMTPException as fault:
            self.abort()
            if not protocol.unasked:
                raise
            # Not an answer to anything; but it may well say why the server did not take the rest.
            said = protocol.unasked.decode("utf-8", "replace").strip()
            raise type(fault)(f"{fault.message}; it had said, unasked: {said}") from fault
        except BaseException:
            self.abort()
            raise
        self.transactions += 1
        return reply

    async def withdraw(self, due: Sequence[Coroutine[None, None, Reply]]) -> None:
        """End a transaction in which nobody was accepted, so that the session can be used for another one.

        `due`: the replies not read yet. A server that waits for a message, or does not answer soon, is cut.
        """
        try:
            async with asyncio.timeout(SOON_SECONDS):
                for reply in due if self.supports_extension("pipelining") else ():  # else they were not asked for
                    if (await reply).code == 354:
                        self.abort()
        except (TimeoutError, aiosmtplib.SMTPException, OSError):
            self.abort()
        self.transactions += 1
        self.spoilt = True

    def leave(self) -> None:
        """Say QUIT without waiting for the answer, and close."""
        if self.protocol is not None and self.is_connected:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, RuntimeError):
                self.protocol.write(b"QUIT\r\n")
        self.close()

    async def _drained(self, protocol: SMTPProtocol) -> None:
        if not protocol._paused and self.is_connected:
            return
        try:
            async with asyncio.timeout(self.limits.write):
                await protocol._drain_helper()
        except TimeoutError as fault:
            raise aiosmtplib.SMTPTimeoutError("the server stopped reading the message") from fault
        except ConnectionError as fault:
            raise aiosmtplib.SMTPServerDisconnected("Connection lost") from fault

    def abort(self) -> None:
        """Cut the connection at once, so that nothing still buffered is sent and nothing more is read."""
        abort = getattr(self.transport, "abort", None)
        if abort is not None:
            abort()
        self.close()
