"""Reading a stream through a durable consumer that provisioning made."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import nats.errors
from nats.aio.msg import Msg

from shared.bus.acknowledgements import NO_RESPONDERS
from shared.bus.client import Bus
from shared.bus.connection import unsubscribe
from shared.bus.origin import MARKS, written_into
from shared.contract.errors import BusUnavailable

ABSENT_SECONDS = 1.0
"""How long a refused wait lasts at most: the server has no such consumer, or none of its servers leads."""


class Taken:
    """A message in hand. Until it is acked it comes back, to this worker or another, after the consumer's ack wait.

    One that nobody published into its stream has no payload, which nobody can read.
    """

    __slots__ = ("_message", "deliveries", "payload", "sequence", "stored_at", "subject")

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject: str = message.subject
        # $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time in ns>.<pending>
        parts = message.reply.split(".")
        headers = message.headers or {}
        # A consumer hands out headers as they were stored, and adds no marks.
        believed = written_into(parts[2], headers, message.subject) and not any(mark in headers for mark in MARKS)
        self.payload: bytes = message.data if believed else b""
        self.deliveries = int(parts[4])
        self.sequence = int(parts[5])
        self.stored_at = datetime.fromtimestamp(int(parts[7]) / 1e9, UTC)

    async def ack(self) -> None:
        """Let the message go. An ack may be lost with the server: it is never a commit."""
        await self._answer(b"+ACK")

    async def in_progress(self) -> bool:
        """Extend the hold by one ack wait; False if that could not even be sent."""
        return await self._answer(b"+WPI")

    async def nak(self, delay_seconds: float = 0) -> None:
        """Give the message back, to be offered again after a delay."""
        await self._answer(b"-NAK " + json.dumps({"delay": int(delay_seconds * 1e9)}).encode())

    async def _answer(self, word: bytes) -> bool:
        try:
            await self._message.respond(word)
        except (nats.errors.Error, OSError):
            return False  # the hold runs out and the message comes back: the state in STATUS decides then
        return True


class PullConsumer:
    """Pulls from one durable consumer; one `fetch` at a time."""

    def __init__(self, bus: Bus, stream: str, consumer: str) -> None:
        self._bus = bus
        self._name = f"{stream}.{consumer}"
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._name}"
        self._absent = False
        self.too_large = False
        """The last pull brought nothing because the first message is larger than its limit: `next` brings that one."""

    async def floor(self) -> int:
        """Return the sequence up to which everything was acked, as the server remembers it.

        Errors: `BusUnavailable`.
        """
        answer = await self._bus.api(f"CONSUMER.INFO.{self._name}")
        if "error" in answer:
            raise BusUnavailable(f"consumer {self._name}: {answer['error']['description']}; run `postlane provision`")
        return int(answer["ack_floor"]["stream_seq"])

    async def fetch(self, batch: int, max_bytes: int, wait_seconds: float) -> list[Taken]:
        """Return what is there, at most `batch` messages and about `max_bytes` octets.

        If nothing is there, wait for the first message; an empty list means that none came in time or that the bus is
        away (then the wait ends early, so that the caller asks again).
        """
        taken = await self._pull({"batch": batch, "max_bytes": max_bytes, "no_wait": True}, batch, 5)
        return taken if taken or wait_seconds <= 0 else await self.next(wait_seconds)

    async def next(self, wait_seconds: float) -> list[Taken]:
        """Return the next message, whatever its size; wait for it, or 0: only if it is there."""
        if wait_seconds <= 0:
            return await self._pull({"batch": 1, "no_wait": True}, 1, 5)
        taken = await self._pull({"batch": 1, "expires": int(wait_seconds * 1e9)}, 1, wait_seconds + 2)
        if self._absent:  # refused at once, and so would be the next one
            await _first(self._bus.moved, min(wait_seconds, ABSENT_SECONDS))
        return taken

    async def _pull(self, request: dict[str, Any], batch: int, patience_seconds: float) -> list[Taken]:
        self.too_large = self._absent = False
        if not self._bus.connected:
            await _first(self._bus.moved, patience_seconds)
            return []
        inbox = self._bus.nc.new_inbox()
        queue: asyncio.Queue[Msg | None] = asyncio.Queue()
        taken: list[Taken] = []

        async def on_message(message: Msg) -> None:
            queue.put_nowait(message)

        try:
            subscription = await self._bus.nc.subscribe(inbox, cb=on_message)
        except (nats.errors.Error, OSError):
            return []  # the connection was closed meanwhile
        epoch = self._bus.epoch
        try:
            await self._bus.nc.publish(self._subject, json.dumps(request).encode(), reply=inbox)
            deadline = asyncio.get_running_loop().time() + patience_seconds
            while len(taken) < batch:
                message = await self._next(queue, deadline)
                if message is None or (message.headers or {}).get("Status"):
                    self._absent = message is not None and (message.headers or {}).get("Status") == NO_RESPONDERS
                    self.too_large = not taken and message is not None and _exceeds_bytes(message)
                    break  # 404 none there, 408 expired, 409 limit reached or consumer gone; or a reconnect
                taken.append(Taken(message))
                if self._bus.epoch != epoch:
                    break
        except (nats.errors.Error, OSError):
            pass  # what was taken comes back after its ack wait
        finally:
            await unsubscribe(subscription)
        while not queue.empty():  # came in between the last look and the end of the subscription
            message = queue.get_nowait()
            if message is not None and not (message.headers or {}).get("Status"):
                taken.append(Taken(message))
        return taken

    async def _next(self, queue: "asyncio.Queue[Msg | None]", deadline: float) -> Msg | None:
        """Wait for a message, but no longer than to the deadline or to the loss of the connection."""
        if not queue.empty():
            return queue.get_nowait()
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            return None
        getter = asyncio.ensure_future(queue.get())
        mover = asyncio.ensure_future(self._bus.moved())
        try:
            done, _ = await asyncio.wait({getter, mover}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            return getter.result() if getter in done else None
        finally:
            getter.cancel()
            mover.cancel()


def _exceeds_bytes(message: Msg) -> bool:
    headers = message.headers or {}
    return headers.get("Status") == "409" and "MaxBytes" in headers.get("Description", "")


async def _first(wait: Callable[[], Awaitable[None]], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wait()
    except TimeoutError:
        pass
