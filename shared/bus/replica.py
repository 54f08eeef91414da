"""Live local replicas of buckets.

A bucket's writer repeats every write, after the PubAck, on the core subject `postlane.changed.<bucket>` with revision
and value; a replica takes those up within milliseconds, re-reads everything after a reconnect, and compares revisions
every 30 s. No room needs the right to create a consumer, which would be the right to publish anywhere, and a server
restart cannot leave a watch silent.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic

import msgspec

from shared.bus.client import Bus
from shared.bus.kv import Bucket, Change, R, deleted
from shared.contract import subjects
from shared.contract.errors import UNREADABLE, BusUnavailable

log = logging.getLogger("bus")

COMPARE_SECONDS = 30.0


class Replica(Generic[R]):
    """A live snapshot of a whole bucket. It only grows newer: each key keeps its highest revision."""

    def __init__(
        self, bus: Bus, name: str, record_type: Any, on_change: Callable[[str, R | None], None] | None = None
    ) -> None:
        self._bus = bus
        self._bucket: Bucket[R] = Bucket(bus, name, record_type)
        self._records: dict[str, R] = {}
        self._revisions: dict[str, int] = {}
        self.unreadable: set[str] = set()
        """Keys whose newest record only a later version can read; `get` returns the one before, if there was one."""
        self._on_change = on_change
        self._known = 0
        """The revision up to which nothing was missed."""
        self._ahead: set[int] = set()
        """Revisions heard of beyond it: one that nobody told of lies in between, or is still on its way."""
        self._created = ""
        self._reread = asyncio.Event()
        self._current = asyncio.Event()
        self.loaded = False

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Listen, load everything (waiting for the bus), and keep up in a task of `tasks`."""
        await self._bus.listen(subjects.changed(self._bucket.name), self._heard)
        self._bus.on_reconnect(self._reconnected)
        while not self.loaded:
            try:
                await self._load()
            except BusUnavailable as fault:
                log.warning("bucket %s cannot be read yet: %s", self._bucket.name, fault)
                await asyncio.sleep(1)
        tasks.create_task(self._keep_up(), name=f"replica of {self._bucket.name}")

    async def current(self, seconds: float) -> bool:
        """Wait, at most this long, until everything was read since the connection last came.

        What was changed while it was away nobody has told us.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._current.wait()
        except TimeoutError:
            return False
        return True

    def get(self, key: str) -> R | None:
        """Return the record of a key, or None."""
        return self._records.get(key)

    def revision(self, key: str) -> int:
        """Return the highest revision seen of a key, 0 if none."""
        return self._revisions.get(key, 0)

    def take(self, key: str, revision: int, record: R) -> None:
        """Take up a record its writer, in this very process, has just written, without waiting to hear of it."""
        if revision >= self._revisions.get(key, 0):
            self._revisions[key] = revision
            self._records[key] = record
            self.unreadable.discard(key)

    def items(self, prefix: str = "") -> Iterator[tuple[str, R]]:
        """Iterate over the records whose keys begin with `prefix`; take a list before awaiting."""
        return ((key, record) for key, record in list(self._records.items()) if key.startswith(prefix))

    def __len__(self) -> int:
        return len(self._records)

    async def _reconnected(self) -> None:
        self._current.clear()
        self._reread.set()

    async def _keep_up(self) -> None:
        while True:
            try:
                if await self._woken():
                    await self._load()
                else:
                    await self._compare()
            except BusUnavailable as fault:
                if self._bus.connected:  # that the bus is away is said once, by the connection
                    log.warning("bucket %s could not be read: %s", self._bucket.name, fault)
                await asyncio.sleep(1)
                self._reread.set()

    async def _woken(self) -> bool:
        """Wait until something asks for a re-read (True) or the interval of comparison has passed (False)."""
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                await self._reread.wait()
        except TimeoutError:
            return False
        self._reread.clear()
        return True

    async def _compare(self) -> None:
        state = await self._bus.stream_state(f"KV_{self._bucket.name}")
        if state.last_sequence != self._known or state.created != self._created:
            log.warning("bucket %s moved on without us, reading it again", self._bucket.name)
            await self._load()

    async def _load(self) -> None:
        stream, everything = f"KV_{self._bucket.name}", f"$KV.{self._bucket.name}.>"
        seen: set[str] = set()
        highest, last = max(self._ahead, default=self._known), 0
        state = await self._bus.stream_state(stream)
        if state.last_sequence < highest or self._created not in ("", state.created):
            # Made anew, or put back from a backup: what it says now is true, however low its revisions.
            log.warning("bucket %s has gone back", self._bucket.name)
            self._revisions.clear()
            self._ahead.clear()
            self._known = 0
        self._created = state.created
        async for stored in self._bus.scan(stream, everything):
            key, last = stored.subject.removeprefix(f"$KV.{self._bucket.name}."), stored.sequence
            seen.add(key)
            self._take(key, stored.sequence, None if deleted(stored) else stored.payload)
        if last < state.last_sequence:  # any server of a cluster may have answered the scan
            newest = await self._bus.last_of_leader(stream, everything)
            if newest is not None and newest.sequence > last:
                raise BusUnavailable(f"bucket {self._bucket.name} was read from a server that lags behind")
        for key in self._records.keys() - seen:
            if self._revisions.get(key, 0) <= state.last_sequence:  # else it was written while we read
                self._forget(key)
        self.unreadable &= seen
        self._follow(state.last_sequence)
        self.loaded = True
        if not self._reread.is_set():  # else the connection has come once more, or something was not understood
            self._current.set()

    def _follow(self, revision: int) -> None:
        """Note that everything up to a revision is known, and what was heard of right behind it."""
        self._known = max(self._known, revision)
        self._ahead = {each for each in self._ahead if each > self._known}
        while self._known + 1 in self._ahead:
            self._known += 1
            self._ahead.remove(self._known)

    async def _heard(self, _subject: str, body: bytes) -> None:
        try:
            change = msgspec.json.decode(body, type=Change)
        except UNREADABLE:
            log.error("an unreadable change was broadcast for bucket %s", self._bucket.name)
            self._reread.set()
            return
        self._take(change.key, change.revision, base64.b64decode(change.value) if change.value is not None else None)
        if change.revision > self._known:
            self._ahead.add(change.revision)
            if change.revision == self._known + 1:
                self._follow(change.revision)

    def _take(self, key: str, revision: int, value: bytes | None) -> None:
        if revision <= self._revisions.get(key, 0):
            return
        try:
            record = self._bucket.decode(value) if value is not None else None
        except UNREADABLE as fault:
            # A record of a later version: keep what we have rather than act on half of it.
            if key not in self.unreadable:
                log.error("record %s of bucket %s cannot be read: %s", key, self._bucket.name, fault)
                self.unreadable.add(key)
                if self._on_change is not None:
                    self._on_change(key, self._records.get(key))
            return
        self.unreadable.discard(key)
        self._revisions[key] = revision
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record
        if self._on_change is not None:
            self._on_change(key, record)

    def _forget(self, key: str) -> None:
        self._records.pop(key, None)
        if self._on_change is not None:
            self._on_change(key, None)
