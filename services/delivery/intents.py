"""Intents: which messages each worker may have come past the final dot with, known to the others if it dies.

Before a final dot is sent, the message and the number of the attempt stand durably in this worker's record of the
bucket `intents`. A record of another worker, or an entry of our own that was never settled, that names the very attempt
a message is in now, or one after it, tells that a copy of it may have arrived already. The server's own count of how
often it handed a message out tells less: it counts what was only pulled, and forgets with the server.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict

from services.delivery.commit import Commits, StatusUnreadable
from shared.bus.client import Bus
from shared.bus.kv import Bucket, Entry
from shared.contract.envelope import FINAL, Envelope
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.siblings import Intents as Record
from shared.runtime import clock

log = logging.getLogger("delivery")

OPEN_KEPT = 2_000
"""Entries kept that were never settled, beyond which the oldest is let go."""
CLEAN_SECONDS = 60.0
"""Interval at which records that nobody has written for so long are looked through."""


class Intents:
    """The record of this worker, and what the others' say. `run` is a task of the room."""

    def __init__(self, bus: Bus, commits: Commits, worker: str) -> None:
        self._bucket: Bucket[Record] = Bucket(bus, "intents", Record)
        self._commits = commits
        self._worker = worker
        self._open: OrderedDict[str, int] = OrderedDict()
        self._durable: dict[str, int] = {}
        self._asked = self._answered = 0
        """The newest change of `_open`, and the newest one that a write, good or bad, has decided."""
        self._writing = asyncio.Lock()
        self._others: dict[str, int] = {}
        self._read_at = -1.0
        self._reading = asyncio.Lock()

    async def declare(self, envelope: Envelope, attempt: int) -> bool:
        """Make it durable that this attempt, or a later one, comes to its final dot; False if that is not certain.

        Those who ask at the same time share a write.
        """
        key = _key(envelope)
        if key in self._open and self._durable.get(key, 0) >= attempt:
            return True
        self._open[key] = attempt
        self._asked += 1
        mine = self._asked
        async with self._writing:
            if self._answered < mine:
                await self._write()
            return self._durable.get(key, 0) >= attempt

    async def _write(self) -> None:
        written, version = dict(self._open), self._asked
        try:
            await self._bucket.put(self._worker, Record(worker=self._worker, at=clock.now(), attempts=written))
            self._durable.update({key: attempt for key, attempt in written.items() if key in self._open})
        except (BusUnavailable, StoreFull) as fault:
            log.warning("no final dot is sent, for it cannot be announced: %s", fault)
        self._answered = version

    def settle(self, envelope: Envelope) -> None:
        """Forget a message whose attempt is committed, or that certainly did not come to a dot."""
        key = _key(envelope)
        self._open.pop(key, None)
        self._durable.pop(key, None)

    async def doubtful(self, envelope: Envelope, attempt: int, since: float) -> bool:
        """Return whether an earlier try of this attempt may have come past a dot.

        A later number than this is of a worker that died before it could commit what comes before it (`interim`).

        `since`: when the message came into our hands, by the loop's clock; what others declared before must be known.
        Errors: `BusUnavailable`.
        """
        if self._open.get(_key(envelope), 0) >= attempt:
            return True
        async with self._reading:
            if self._read_at < since:
                began = asyncio.get_running_loop().time()
                records = await self._bucket.entries()
                others: dict[str, int] = {}
                for found in records:
                    if found.key != self._worker:
                        for key, number in found.record.attempts.items():
                            others[key] = max(number, others.get(key, 0))
                self._others = others
                self._read_at = began
        return self._others.get(_key(envelope), 0) >= attempt

    async def run(self) -> None:
        """Drop, now and then, what has long been settled: of dead workers, and of our own."""
        while True:
            await asyncio.sleep(CLEAN_SECONDS)
            try:
                for found in await self._bucket.entries():
                    if (clock.now() - found.record.at).total_seconds() >= CLEAN_SECONDS:
                        await self._clean(found)
            except BusUnavailable as fault:
                log.warning("intents could not be looked through: %s", fault)

    async def _clean(self, found: Entry[Record]) -> None:
        settled = [key for key, attempt in found.record.attempts.items() if await self._settled(key, attempt)]
        if found.key == self._worker:
            for key in settled:
                if self._open.get(key) == found.record.attempts[key]:
                    self._open.pop(key)
                    self._durable.pop(key, None)
            while len(self._open) > OPEN_KEPT:
                self._durable.pop(self._open.popitem(last=False)[0], None)
        if len(settled) == len(found.record.attempts):
            with contextlib.suppress(WrongSequence, StoreFull):  # it lives and has written; or there is room later
                await self._bucket.delete(found.key, found.revision)

    async def _settled(self, key: str, attempt: int) -> bool:
        try:
            last, _ = await self._commits.last_of(*key.split("."))
        except StatusUnreadable:
            return False
        return last is not None and (last.attempt >= attempt or last.status in FINAL)

    async def leave(self) -> None:
        """Leave behind only what is not settled."""
        async with self._writing:
            if self._open:
                await self._write()
            elif self._asked:
                with contextlib.suppress(BusUnavailable, StoreFull):
                    await self._bucket.delete(self._worker)


def _key(envelope: Envelope) -> str:
    return f"{envelope.instance}.{envelope.configuration}.{envelope.queue_id}"
