"""Questions and publishing into streams: one inbox for all answers to a connection, a number for each.

`Client.request` makes an unguessable inbox and a guarded wait for every message, which cost more than publishing it.
Here a number tells the answers apart: only the server may publish into a room's inboxes.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.runtime import clock

NO_RESPONDERS = "503"
_WRONG_SEQUENCE = {10071, 10164}  # wrong last sequence; the same for a schedule in a replicated stream
_FULL = {10077, 10023, 10047, 10122}  # stream, server, account limits of storage


class _Error(msgspec.Struct, frozen=True):
    description: str = "refused"
    code: int = msgspec.field(default=0, name="err_code")


class _PubAck(msgspec.Struct, frozen=True):
    stream: str = ""
    sequence: int = msgspec.field(default=0, name="seq")
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_PubAck)


class Pending:
    """A message handed to the connection, its PubAck still to come."""

    def __init__(self, subject: str, stream: str, answer: "asyncio.Future[Msg]", forget: Callable[[], object]) -> None:
        """Wait for `answer`, which must be of that very stream; `forget` is called after a wait."""
        self._subject = subject
        self._stream = stream
        self._answer = answer
        self._forget = forget

    async def stored(self, timeout_seconds: float) -> int:
        """Return the sequence once the message lies in its stream.

        Errors: `BusUnavailable` if the outcome is unknown; `StoreFull`, `WrongSequence`: not stored.
        """
        message = await self.answered(timeout_seconds)
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            raise BusUnavailable(f"no stream takes {self._subject}; run `postlane provision`")
        return acknowledged(message.data, self._stream, self._subject)

    async def answered(self, timeout_seconds: float) -> Msg:
        """Return the answer as it is; it may say that nobody listens.

        Errors: `BusUnavailable` if none comes in time.
        """
        if self._answer.done():
            return self._answer.result()
        timer = clock.limit(self._answer, timeout_seconds)
        try:
            return await self._answer
        except TimeoutError:
            raise BusUnavailable(f"no answer on {self._subject} in {timeout_seconds:.1f} seconds") from None
        finally:
            timer.cancel()
            self._forget()


class Acknowledgements:
    """The PubAcks one connection waits for; lives as long as the connection."""

    def __init__(self, nc: Client) -> None:
        """Use a connection its owner makes and closes."""
        self._nc = nc
        self._inbox = ""
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._opening = asyncio.Lock()
        self._last = 0

    async def publish(
        self, subject: str, payload: bytes, stream: str, headers: dict[str, str] | None = None
    ) -> Pending:
        """Hand a message to the connection; `stream` is whose PubAck is waited for, "" for another answer.

        Errors: `BusUnavailable` if the connection does not take it.
        """
        self._last += 1
        number = str(self._last)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        try:
            reply = (self._inbox or await self._open()) + number
            self._waiting[number] = answer
            await self._nc.publish(subject, payload, reply=reply, headers=headers)
        except nats.errors.OutboundBufferLimitError:  # nothing is buffered: the client says so when it is not connected
            self._waiting.pop(number, None)
            raise BusUnavailable(f"not published on {subject}: the bus is away") from None
        except (nats.errors.Error, OSError) as fault:
            self._waiting.pop(number, None)
            raise BusUnavailable(f"not published on {subject}: {fault}") from fault
        except asyncio.CancelledError:
            self._waiting.pop(number, None)
            raise
        return Pending(subject, stream, answer, partial(self._waiting.pop, number, None))

    async def _open(self) -> str:
        async with self._opening:
            if not self._inbox:
                inbox = f"{self._nc.new_inbox()}."
                await self._nc.subscribe(f"{inbox}*", cb=self._answered)
                self._inbox = inbox
        return self._inbox

    async def _answered(self, message: Msg) -> None:
        answer = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if answer is not None and not answer.done():
            answer.set_result(message)


def acknowledged(data: bytes, stream: str, subject: str) -> int:
    """Return the sequence of a PubAck of the stream.

    Errors: `BusUnavailable`, `StoreFull`, `WrongSequence`.
    """
    try:
        ack = _decoder.decode(data)
    except msgspec.MsgspecError:
        raise BusUnavailable(f"the answer to {subject} is not a PubAck") from None
    if ack.error is not None:
        text = f"{subject}: {ack.error.description}"
        if ack.error.code in _WRONG_SEQUENCE:
            raise WrongSequence(text)
        if ack.error.code in _FULL:
            raise StoreFull(text)
        raise BusUnavailable(f"{text} (error {ack.error.code})")
    if ack.stream != stream or not ack.sequence:
        # Somebody else answered, or the subject lies in another stream: not stored where it must be.
        raise BusUnavailable(f"{subject} was acknowledged by {ack.stream!r} instead of {stream!r}")
    return ack.sequence
