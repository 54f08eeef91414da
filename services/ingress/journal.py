"""Events on their way to the bus, published by a few tasks: no client waits for them and none is lost quietly."""

import asyncio
import logging

import msgspec

from shared.bus.acknowledgements import Pending
from shared.bus.client import Bus
from shared.contract.errors import BusUnavailable, StoreFull

log = logging.getLogger("ingress")

RETRY_SECONDS = 1.0
ANSWER_SECONDS = 5.0
GATHER_SECONDS = 0.01
BATCH = 200


class Posting(msgspec.Struct, frozen=True):
    """One event to publish; `id` makes a repetition harmless."""

    subject: str
    stream: str
    id: str
    body: bytes


class Journal:
    """A bounded queue of events and the tasks that empty it. The bus may be away for as long as the queue lasts."""

    def __init__(self, bus: Bus, name: str, capacity: int, writers: int) -> None:
        """Prepare; `start` begins to publish."""
        self._bus = bus
        self.name = name
        self._writers = writers
        self._queue: asyncio.Queue[Posting] = asyncio.Queue(capacity)
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Events not taken up yet."""
        return self._queue.qsize()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Publish in tasks of the room."""
        for number in range(self._writers):
            tasks.create_task(self._write(), name=f"{self.name} journal {number}")

    def post(self, posting: Posting) -> bool:
        """Queue an event; False, counted and logged, if the queue is full."""
        try:
            self._queue.put_nowait(posting)
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # at 1, 2, 4, 8 …: an alarm, not a flood
                log.error(
                    "%s events dropped because the bus does not take them", self.name, extra={"dropped": self.dropped}
                )
            return False
        return True

    async def settle(self, seconds: float) -> bool:
        """Wait until everything queued is published; False if it is not in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            return False
        return True

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(GATHER_SECONDS)  # one write and one read of the socket for all that come meanwhile
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            taken = len(batch)
            try:
                while batch:
                    batch = await self._publish(batch)
                    if batch:
                        await asyncio.sleep(RETRY_SECONDS)
            finally:
                for _ in range(taken):
                    self._queue.task_done()

    async def _publish(self, batch: list[Posting]) -> list[Posting]:
        """Publish events; return those that could not be published yet."""
        left: list[Posting] = []
        pending: list[tuple[Posting, Pending]] = []
        for posting in batch:
            try:
                sent = await self._bus.send(posting.subject, posting.body, stream=posting.stream, message_id=posting.id)
            except BusUnavailable as fault:
                self._not_yet(posting, fault)
                left.append(posting)
            else:
                pending.append((posting, sent))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_SECONDS
        for posting, sent in pending:
            try:
                await sent.stored(max(0.0, deadline - loop.time()))
            except (BusUnavailable, StoreFull) as fault:
                self._not_yet(posting, fault)
                left.append(posting)
        return left

    def _not_yet(self, posting: Posting, fault: Exception) -> None:
        log.warning("an event could not be published yet: %s", fault, extra={"subject": posting.subject})
