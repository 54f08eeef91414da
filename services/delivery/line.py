"""The line to an exchanger: pairs replies with what they are due to, in order (RFC 2920 §3.1).

A server may send anything at any time. Each line of a reply is looked at once, what nobody asked for is remembered as a
disturbance, and whoever waits learns of the end.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable

import aiosmtplib
from aiosmtplib.protocol import MAX_RESPONSE_LENGTH, SMTPProtocol
from aiosmtplib.response import SMTPResponse

UNASKED_BYTES = 200
_REPLY_LINE = re.compile(rb"[0-9]{3}[- \t\r\n]")  # RFC 5321 §4.2; a tab for what some write


class Line(SMTPProtocol):
    """As aiosmtplib's until `expect` is used, then any number of replies may be due."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connection_lost_callback: Callable[[SMTPProtocol], None]
    ) -> None:
        super().__init__(loop=loop, connection_lost_callback=connection_lost_callback)
        self._due: deque[asyncio.Future[SMTPResponse]] = deque()
        self._looked = 0
        """Octets of the buffer that are complete lines, none of which ends a reply."""
        self._code = b""
        """The code of those lines."""
        self.disturbed = False
        """Something came that nobody asked for: this session is not used again."""
        self.unasked = b""
        """The beginning of that."""

    def expect(self, replies: int) -> list[asyncio.Future[SMTPResponse]]:
        """Return futures of the next replies; call it before the commands are written."""
        if self._buffer and not self._due:
            self.disturbed = True  # it came behind the last reply and belongs to nothing
            self._discard()
        futures = [self._loop.create_future() for _ in range(replies)]
        self._due.extend(futures)
        return futures

    def data_received(self, data: bytes) -> None:
        """Pair replies with what is due, in order; what is not due is discarded and remembered as a disturbance."""
        if not self._waiting():
            self.disturbed = True
            self.unasked = (self.unasked + data)[:UNASKED_BYTES]
            return
        self._buffer.extend(data)
        try:
            while self._waiting() and self._complete():
                self._looked, self._code = 0, b""
                if (response := self._read_response_from_buffer()) is not None:
                    self._settle(response)
            if len(self._buffer) > MAX_RESPONSE_LENGTH:
                raise aiosmtplib.SMTPResponseException(-1, "Response too long")
        except aiosmtplib.SMTPResponseException as fault:
            if self._response_waiter is not None and not self._due:
                self._set_response_exception(self._response_waiter, fault)
            self._fail(fault)
        if self._buffer and not self._waiting():
            self.disturbed = True
            self._discard()

    def _discard(self) -> None:
        self.unasked = (self.unasked + self._buffer)[:UNASKED_BYTES]
        del self._buffer[:]
        self._looked, self._code = 0, b""

    def _waiting(self) -> bool:
        """Whether a reply is due, to what `expect` announced or to a command of aiosmtplib's own."""
        waiter = self._response_waiter
        return bool(self._due) or (self._response_pending and waiter is not None and not waiter.done())

    def _complete(self) -> bool:
        """Return whether the buffer begins with a whole reply. Each line is looked at once, in however many pieces.

        Errors: `aiosmtplib.SMTPResponseException` for a line without a code, or with another than those before it.
        """
        while (end := self._buffer.find(b"\n", self._looked)) >= 0:
            line, self._looked = bytes(self._buffer[self._looked : end + 1]), end + 1
            if not _REPLY_LINE.match(line) or self._code not in (b"", line[:3]):  # RFC 5321 §4.2.1
                said = line.decode("utf-8", "ignore").strip()
                raise aiosmtplib.SMTPResponseException(-1, f"Malformed SMTP response line: {said}")
            if line[3:4] != b"-":
                return True
            self._code = line[:3]
        return False

    def eof_received(self) -> bool:
        """Fail what is still due."""
        self._fail(aiosmtplib.SMTPServerDisconnected("Unexpected EOF received"))
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is still due."""
        self._fail(aiosmtplib.SMTPServerDisconnected("Connection lost"))
        super().connection_lost(exc)

    def _settle(self, response: SMTPResponse) -> None:
        future = self._due.popleft() if self._due else self._response_waiter
        if future is not None and not future.done():
            future.set_result(response)

    def _fail(self, fault: Exception) -> None:
        self.disturbed = True
        while self._due:
            future = self._due.popleft()
            if not future.done():
                future.set_exception(fault)
                future.exception()  # perhaps nobody waits for it any more: that is no fault
