"""Notes in a bucket that nobody waits for: the newest of each key, each key at most once in an interval; bounded."""

import asyncio
from collections import OrderedDict
from typing import Generic, TypeVar

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.records import Record

N = TypeVar("N")
R = TypeVar("R", bound=Record)

LOOK_SECONDS = 0.5
KEYS = 10_000
LEAVE_SECONDS = 2.0


class Notebook(Generic[N]):
    """Notes that wait to be written. The owner passes the time in seconds, of any origin."""

    def __init__(self, interval_seconds: float, keys: int) -> None:
        """Start empty; of more than `keys` keys the ones noted longest ago are let go."""
        self._interval = interval_seconds
        self._keys = keys
        self._waiting: OrderedDict[str, N] = OrderedDict()
        self._written: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the notes that wait."""
        return len(self._waiting)

    def note(self, key: str, record: N) -> None:
        """Take the newest note of a key."""
        self._waiting[key] = record
        self._waiting.move_to_end(key)
        if len(self._waiting) > self._keys:
            self._waiting.popitem(last=False)

    def due(self, at: float, everything: bool = False) -> list[tuple[str, N]]:
        """Return what may be written now, or everything, oldest first; it counts as written from now on."""
        ready = [
            (key, record)
            for key, record in self._waiting.items()
            if everything or at - self._written.get(key, at - self._interval) >= self._interval
        ]
        for key, _ in ready:
            del self._waiting[key]
            self._written[key] = at
            self._written.move_to_end(key)
        while len(self._written) > self._keys:
            self._written.popitem(last=False)
        return ready

    def failed(self, key: str, record: N) -> None:
        """Take back a note that could not be written, unless there is a newer one."""
        self._written.pop(key, None)
        if key not in self._waiting:
            self.note(key, record)


class Notes(Generic[R]):
    """One bucket of notes, written by a task of the room; `leave` writes what is left."""

    def __init__(self, bus: Bus, bucket: str, record_type: type[R], interval_seconds: float) -> None:
        """Prepare; `start` begins to write."""
        self._bucket: Bucket[R] = Bucket(bus, bucket, record_type)
        self._notebook: Notebook[R] = Notebook(interval_seconds, KEYS)

    def note(self, key: str, record: R) -> None:
        """Note something; it is written soon, but each key at most once in the interval."""
        self._notebook.note(key, record)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Write in a task of the room."""
        tasks.create_task(self._run(), name=f"notes of {self._bucket.name}")

    async def leave(self) -> None:
        """Write what is left, if the bus takes it in time: whoever starts next does not know it."""
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._write(everything=True)
        except TimeoutError:
            return

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if len(self._notebook):
                await self._write()

    async def _write(self, everything: bool = False) -> None:
        due = self._notebook.due(asyncio.get_running_loop().time(), everything)
        for position, (key, record) in enumerate(due):
            try:
                await self._bucket.put(key, record)
            except (BusUnavailable, StoreFull):
                for late in due[position:]:
                    self._notebook.failed(*late)
                return
