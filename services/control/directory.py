"""The directory: reads from a live replica, writes compared and set on the bus, each one audited.

Replicas of control may write side by side: what must be unique or is limited is decided by creating a key or by
compare-and-set of one record, never by reading first.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from services.control.core.fault import Fault
from services.control.refusal import Refused, stale
from shared.bus.client import Bus
from shared.bus.kv import Bucket, Entry
from shared.bus.replica import Replica
from shared.contract import subjects
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.events import DirectoryChanged
from shared.contract.records import ApiKey, DirectoryRecord, DkimKey, Record, Roster, Seat, Suppression, User
from shared.contract.siblings import ApiKeyUse
from shared.contract.standing import Standing
from shared.runtime.clock import now

log = logging.getLogger("control")

T = TypeVar("T", bound=Record)
ATTEMPTS = 50
"""Tries of a compare-and-set that others keep winning; each loser's loss is another's success."""
CATCH_UP_SECONDS = 2.0
AUDIT = "AUDIT"


class Directory:
    """Everything control knows and writes. Started once; lives as long as the bus."""

    def __init__(self, bus: Bus, lapse_seconds: float) -> None:
        self.bus = bus
        self._lapse = timedelta(seconds=lapse_seconds)
        self._bucket: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
        self.keys: Bucket[DkimKey] = Bucket(bus, "keys", DkimKey)
        self.access: Bucket[ApiKey] = Bucket(bus, "access", ApiKey)
        self._seen: Replica[DirectoryRecord] = Replica(bus, "directory", DirectoryRecord, self._on_change)
        self._grouped: dict[str, dict[str, DirectoryRecord]] = {}
        self._moved = asyncio.Event()
        self.standings: Replica[Standing] = Replica(bus, "standing", Standing, self._on_news)
        self.api_keys: Replica[ApiKey | ApiKeyUse] = Replica(bus, "access", ApiKey | ApiKeyUse)
        self.suppressions: Replica[Suppression] = Replica(bus, "suppressions", Suppression, self._on_news)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load all replicas and keep them up in `tasks`; waits for the bus."""
        for replica in (self._seen, self.standings, self.api_keys, self.suppressions):
            await replica.start(tasks)

    def _on_change(self, key: str, record: DirectoryRecord | None) -> None:
        for group in _groups(key):
            if record is not None:
                self._grouped.setdefault(group, {})[key] = record
            elif (members := self._grouped.get(group)) is not None:
                members.pop(key, None)
                if not members:
                    del self._grouped[group]
        self._on_news(key, record)

    def _on_news(self, _key: str, _record: Record | None) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def get(self, key: str, kind: type[T]) -> T | None:
        """Return a record as last seen, milliseconds old at most."""
        record = self._seen.get(key)
        return record if isinstance(record, kind) else None

    def revision(self, key: str) -> int:
        """Return the revision of a record as last seen."""
        return self._seen.revision(key)

    def all(self, group: str, kind: type[T]) -> list[T]:
        """Return the records of a group in the order of their keys: `zone.`, or `user.<configuration>.`, and so on."""
        found = self._grouped.get(group, {})
        return [record for _, record in sorted(found.items()) if isinstance(record, kind)]

    async def fresh(self, key: str, kind: type[T]) -> Entry[T] | None:
        """Return a record as it is on the bus now.

        Errors: `BusUnavailable`.
        """
        entry: Any = await self._bucket.get(key)
        return entry if entry is not None and isinstance(entry.record, kind) else None

    async def fresh_all(self, prefix: str, kind: type[T]) -> list[T]:
        """Return the records whose keys begin so (whole tokens) as they are on the bus now. Reads them all.

        Errors: `BusUnavailable`.
        """
        return [entry.record for entry in await self._bucket.entries(prefix) if isinstance(entry.record, kind)]

    async def create(self, key: str, record: DirectoryRecord, by: str, instance: str) -> int:
        """Write a record that must not exist; return its revision.

        Errors: `WrongSequence` if it exists; `BusUnavailable`.
        """
        revision = await self._bucket.create(key, record)
        await self._caught_up(key, revision)
        await self.audit(by, "create", key, instance, None, record)
        return revision

    async def change(
        self, key: str, kind: type[T], edit: Callable[[T], T], by: str, instance: str, if_match: int | None = None
    ) -> tuple[T, int] | None:
        """Edit a record in place; return it with its revision, or None if it does not exist.

        Errors: `Refused` (412) if `if_match` is not its revision; `BusUnavailable`.
        """
        for _ in range(ATTEMPTS):
            entry = await self.fresh(key, kind)
            if entry is None:
                return None
            if if_match is not None and entry.revision != if_match:
                raise stale()
            after = edit(entry.record)
            if after == entry.record:
                return after, entry.revision
            try:
                revision = await self._bucket.update(key, after, entry.revision)  # type: ignore[arg-type]  # a kind of it
            except WrongSequence:
                continue
            await self._caught_up(key, revision)
            await self.audit(by, "change", key, instance, entry.record, after)
            return after, revision
        raise _contended()

    async def put(self, key: str, record: DirectoryRecord, by: str, instance: str) -> int:
        """Write a record whatever was there."""
        before = self._seen.get(key)
        revision = await self._bucket.put(key, record)
        await self._caught_up(key, revision)
        await self.audit(by, "put", key, instance, before, record)
        return revision

    async def delete(self, key: str, by: str, instance: str, revision: int | None = None) -> None:
        """Delete a record, at this revision if one is given; a missing one is no error.

        Errors: `WrongSequence` if it has another revision; `BusUnavailable`.
        """
        before = self._seen.get(key)
        await self._bucket.delete(key, revision)
        await self._until(lambda: self._seen.get(key) is None)
        if before is not None:
            await self.audit(by, "delete", key, instance, before, None)

    async def audit(
        self, by: str, action: str, key: str, instance: str, before: Record | None, after: Record | None
    ) -> None:
        """Keep who changed what. The change has been made: if the log cannot be written, the process's log gets it."""
        event = DirectoryChanged(
            id=str(uuid.uuid4()),
            at=now(),
            by=by,
            action=action,
            key=key,
            instance=instance,
            before=_raw(before),
            after=_raw(after),
        )
        body = msgspec.json.encode(event)
        for _ in range(3):
            try:
                await self.bus.store(subjects.audit(instance), body, stream=AUDIT, message_id=event.id)
            except BusUnavailable:
                continue
            except StoreFull:
                break
            return
        log.critical("an audit record could not be stored; it is here instead", extra={"audit": body.decode()})

    async def take_seat(self, key: str, name: str, holder: str, most: int, full: Fault, taken: Fault) -> None:
        """Take a seat of a roster under a unique name, or refuse.

        A seat whose holder never came into being lapses after a while.

        Errors: `Refused` (409) with `full` or `taken`; `BusUnavailable`.
        """
        for _ in range(ATTEMPTS):
            entry = await self.fresh(key, Roster)
            roster = entry.record if entry else Roster()
            at = now()
            seats = [seat for seat in roster.seats if seat.holder != holder and await self._live(seat, at)]
            if any(seat.name == name for seat in seats):
                raise Refused(409, taken)
            if len(seats) >= most:
                raise Refused(409, full)
            after = Roster(seats=(*seats, Seat(holder=holder, name=name, at=at)))
            try:
                if entry is None:
                    await self._bucket.create(key, after)
                else:
                    await self._bucket.update(key, after, entry.revision)
            except WrongSequence:
                continue
            return
        raise _contended()

    async def leave_seat(self, key: str, holder: str) -> None:
        """Give up a seat; the last one removes the roster."""
        for _ in range(ATTEMPTS):
            entry = await self.fresh(key, Roster)
            if entry is None:
                return
            seats = tuple(seat for seat in entry.record.seats if seat.holder != holder)
            try:
                if seats:
                    await self._bucket.update(key, Roster(seats=seats), entry.revision)
                else:
                    await self._bucket.delete(key, entry.revision)
            except WrongSequence:
                continue
            return
        raise _contended()

    def lapsed(self, at: datetime | None) -> bool:
        """Whether an unfinished creation begun at `at` has had its time."""
        return at is None or now() - at > self._lapse

    async def _live(self, seat: Seat, at: datetime) -> bool:
        return at - seat.at <= self._lapse or await self._bucket.get(seat.holder) is not None

    async def _caught_up(self, key: str, revision: int) -> None:
        """Wait until this process sees its own write, so that a client reads what it wrote."""
        await self._until(lambda: self._seen.revision(key) >= revision)

    async def stands(self, standing: Standing) -> None:
        """Wait until this process sees what the verifier has just answered, so that a page says what it was asked for.

        The answer and the news of the bucket come by two ways.
        """

        def seen() -> bool:
            known = self.standings.get(standing.configuration)
            known_at = known.checked_at if known is not None else None
            return standing.checked_at is None or (known_at is not None and known_at >= standing.checked_at)

        await self._until(seen)

    async def suppresses(self, configuration: str, address: str, wanted: bool) -> None:
        """Wait likewise until an address that delivery was asked to enter, or to take off, is seen to be so."""
        key = subjects.suppression(configuration, address)
        await self._until(lambda: (self.suppressions.get(key) is not None) is wanted)

    async def _until(self, seen: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):  # the write is made; the replica compares revisions by itself
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while not seen():
                    await self._moved.wait()


def _groups(key: str) -> list[str]:
    """Return every group a key belongs to: `user.c.u` to `user.` and to `user.c.`."""
    tokens = key.split(".")
    return [".".join(tokens[:count]) + "." for count in range(1, len(tokens))]


def _contended() -> Refused:
    return Refused(503, Fault("too_much_contention", "too many others are changing the same object: try again"))


def _raw(record: Record | None) -> msgspec.Raw:
    """Encode a record for the audit log, without what even a hash would give away."""
    if isinstance(record, User):
        hidden = tuple(msgspec.structs.replace(password, hash="…") for password in record.passwords)
        record = msgspec.structs.replace(record, passwords=hidden)
    if isinstance(record, ApiKey):
        record = msgspec.structs.replace(record, hash="…")
    return msgspec.Raw(msgspec.json.encode(record))
