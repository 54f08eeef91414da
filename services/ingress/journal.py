"""Events on their way to the bus, published by a few tasks: no client waits for them and none is lost quietly."""

import asyncio
import hashlib
import logging
from collections.abc import Iterable

import msgspec

from shared.bus.acknowledgements import Pending
from shared.bus.client import Bus
from shared.contract import page
from shared.contract.errors import BusUnavailable, StoreFull

log = logging.getLogger("ingress")

RETRY_SECONDS = 1.0
ANSWER_SECONDS = 5.0
GATHER_SECONDS = 0.01
BATCH = 200
QUEUE_BYTES = 128 << 20
"""Octets of events that may wait: those of very many recipients are large."""
PAGE_BYTES = 1 << 20
"""Octets of a page from which on the next event begins another one."""


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
        self._octets = 0
        """Of events that wait or are being published."""
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
        octets = self._octets + len(posting.body)
        if self._queue.full() or octets > QUEUE_BYTES:
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # at 1, 2, 4, 8 …: an alarm, not a flood
                log.error(
                    "%s events dropped because the bus does not take them", self.name, extra={"dropped": self.dropped}
                )
            return False
        self._octets = octets
        self._queue.put_nowait(posting)
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
            try:
                left = self._records(batch)  # made once: what is published again must be the same
                while left:
                    left = await self._publish(left)
                    if left:
                        await asyncio.sleep(RETRY_SECONDS)
                await self._published(batch)
            finally:
                for posting in batch:
                    self._octets -= len(posting.body)
                    self._queue.task_done()

    def _records(self, batch: list[Posting]) -> list[Posting]:
        """Return what is stored of some events: each by itself."""
        return batch

    async def _published(self, batch: list[Posting]) -> None:
        """Do what is to be done once some events are stored: nothing."""

    async def _publish(self, batch: list[Posting]) -> list[Posting]:
        """Publish events; return those that could not be published yet."""
        left: list[Posting] = []
        faults: list[Exception] = []
        pending: list[tuple[Posting, Pending]] = []
        for posting in batch:
            try:
                sent = await self._bus.send(posting.subject, posting.body, stream=posting.stream, message_id=posting.id)
            except BusUnavailable as fault:
                left.append(posting)
                faults.append(fault)
            else:
                pending.append((posting, sent))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_SECONDS
        for posting, sent in pending:
            try:
                await sent.stored(max(0.0, deadline - loop.time()))
            except (BusUnavailable, StoreFull) as fault:
                left.append(posting)
                faults.append(fault)
        if faults and self._bus.connected:  # that the bus is away is said once, by the connection
            log.warning(
                "%d of the %s events could not be published yet: %s",
                *(len(left), self.name, faults[0]),
                extra={"subject": left[0].subject},
            )
        return left


class PagedJournal(Journal):
    """Stores events that come together in pages, and only then says each of them, to whoever listens.

    Every record is synced to disk by itself: in pages, events cost the server next to nothing when there are many.
    """

    def __init__(self, bus: Bus, name: str, capacity: int, subject: str) -> None:
        """Prepare to store pages on `subject`; one task writes them, for two would make twice as many."""
        super().__init__(bus, name, capacity, writers=1)
        self._subject = subject

    def _records(self, batch: list[Posting]) -> list[Posting]:
        return [self._record(postings) for postings in _pages(batch)]

    def _record(self, postings: list[Posting]) -> Posting:
        body = page.written([each.body for each in postings])
        # Named by all that is on it: a message may be announced twice, and must not pass its page off as a repetition.
        return Posting(self._subject, postings[0].stream, hashlib.sha256(body).hexdigest(), body)

    async def _published(self, batch: list[Posting]) -> None:
        for posting in batch:
            await self._bus.publish(posting.subject, posting.body)


def _pages(batch: Iterable[Posting]) -> list[list[Posting]]:
    """Divide events into pages of bounded size, in order."""
    pages: list[list[Posting]] = []
    octets = PAGE_BYTES
    for posting in batch:
        if octets >= PAGE_BYTES:
            pages.append([])
            octets = 0
        pages[-1].append(posting)
        octets += len(posting.body)
    return pages
