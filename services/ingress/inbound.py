"""What a client has sent and nobody has read yet: bounded, with flow control, read by line or by octets."""

import asyncio
from typing import Final

HIGH_WATER: Final = 131_072
"""Octets after which the socket is not read any more until somebody takes them."""


class Ended(Exception):
    """The client has gone."""


class TimedOut(Exception):
    """The client did not send anything in time."""


class LineTooLong:
    """Stands for a line that was longer than allowed; its octets are gone, its end has been found."""


TOO_LONG: Final = LineTooLong()


class Inbound:
    """The received octets of one connection; one task reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start empty; `transport` is set when the connection is made."""
        self._loop = loop
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        """Until when the reader waits."""
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self.ended = False
        self.total = 0
        """Octets received since the beginning."""
        self.transport: asyncio.ReadTransport | None = None

    def __len__(self) -> int:
        """Return the octets waiting to be read."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> None:
        """Take octets from the socket."""
        self._buffer += octets
        self.total += len(octets)
        if len(self._buffer) > HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self.wake()

    def end(self) -> None:
        """Note that nothing more will come."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.wake()

    def wake(self) -> None:
        """Let the reader look again, because of octets or because of something else."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Throw away what was received: it must not cross into TLS (RFC 3207 §4.2)."""
        self._buffer.clear()
        self._scanned = 0
        self._skipping = False

    async def more(self, seconds: float) -> None:
        """Wait for more octets, or to be woken. Raises `Ended` or `TimedOut`."""
        if self.ended:
            raise Ended
        if seconds <= 0:
            raise TimedOut
        self._resume()
        self._waiter = self._loop.create_future()
        self._watch(self._loop.time() + seconds)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def line(self, limit: int) -> bytes | LineTooLong | None:
        """Return the next line with its LF; None if it is not complete yet."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            if len(self._buffer) > limit:
                self._skipping = True
                self._buffer.clear()
            self._scanned = len(self._buffer)
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._scanned = 0
        if self._skipping or len(line) > limit:
            self._skipping = False
            return TOO_LONG
        return line

    def take(self) -> bytearray:
        """Return everything received."""
        taken, self._buffer = self._buffer, bytearray()
        self._scanned = 0
        return taken

    def peek(self) -> bytes:
        """Return everything received, leaving it there."""
        return bytes(self._buffer)

    def drop(self, count: int) -> None:
        """Remove octets that have been read with `peek`."""
        del self._buffer[:count]
        self._scanned = 0

    def give_back(self, octets: bytes) -> None:
        """Put octets back in front, to be read next."""
        if octets:
            self._buffer[:0] = octets
            self._scanned = 0

    def _watch(self, deadline: float) -> None:
        """Have the wait end at the deadline.

        A timer a wait would cost more than the wait. One that is early enough stays, and looks again when it rings.
        """
        self._deadline = deadline
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._watch(self._deadline)
        else:
            self._waiter.set_exception(TimedOut())

    def _resume(self) -> None:
        if self._paused and len(self._buffer) <= HIGH_WATER and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
