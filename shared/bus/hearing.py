"""Listening for a while to what is said on the bus, for somebody who watches; what nobody takes is forgotten."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.msg import Msg

from shared.bus.client import Bus
from shared.bus.connection import unsubscribe
from shared.bus.origin import diverted
from shared.contract.errors import BusUnavailable

CAPACITY = 1_000
"""Messages kept for a watcher who is slower than the bus; those beyond are not kept."""


class Hearing:
    """What was heard and not taken yet."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(CAPACITY)

    async def on_message(self, message: Msg) -> None:
        """Keep a message, unless the watcher is far behind."""
        if diverted(message):
            return
        with contextlib.suppress(asyncio.QueueFull):
            self._heard.put_nowait((message.subject, message.data))

    async def next(self, seconds: float) -> tuple[str, bytes] | None:
        """Return the next message's subject and body, None if none comes in time."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                return await self._heard.get()
        except TimeoutError:
            return None


@asynccontextmanager
async def hearing(bus: Bus, subjects: Sequence[str]) -> AsyncIterator[Hearing]:
    """Subscribe, and hand over what is heard until the end; the server knows of it once this is entered.

    Errors: `BusUnavailable` if the bus cannot be asked now.
    """
    found = Hearing()
    subscriptions = []
    try:
        try:
            for subject in subjects:
                subscriptions.append(await bus.nc.subscribe(subject, cb=found.on_message))
            if not await bus.reached():
                raise BusUnavailable("the bus cannot be listened to now: it does not answer")
        except (nats.errors.Error, OSError) as fault:
            raise BusUnavailable(f"the bus cannot be listened to now: {fault}") from fault
        yield found
    finally:
        for subscription in subscriptions:
            await unsubscribe(subscription)
