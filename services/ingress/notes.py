"""Notes on the bus that no client waits for: the last use of a password, what a rule in report mode would refuse."""

import asyncio
from typing import Generic, TypeVar

from services.ingress.core.notebook import Notebook
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.records import Record

R = TypeVar("R", bound=Record)

LOOK_SECONDS = 0.5
KEYS = 10_000
LEAVE_SECONDS = 2.0


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
