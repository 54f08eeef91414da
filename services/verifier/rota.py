"""Which replica checks what: leases in the bucket `checks`, taken and given back by compare-and-set.

Every replica sees all leases; one that finds a check due and free writes its name into it, and whoever loses that race
moves on. A holder that dies leaves a lease that runs out, and the check is due again: none is done twice while its
holder lives, none is lost when it dies.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from zlib import crc32

import msgspec

from services.verifier.core.agenda import Agenda
from services.verifier.core.drift import remembered
from shared.bus.client import Bus
from shared.bus.kv import Bucket, Replica
from shared.contract.errors import WrongSequence
from shared.contract.records import Check, Observation, Sighting

DEFERENCE_SECONDS = 0.5
"""A due check is taken up to so much later, by a hash of replica and configuration, so that replicas rarely race."""


class Lease(msgspec.Struct, frozen=True):
    """A check this replica holds."""

    check: Check
    revision: int
    was_abandoned: bool
    """The holder before did not finish: what it last wrote may not have been broadcast."""


class Rota:
    """The shared schedule as this replica sees it."""

    def __init__(self, bus: Bus, replica: str, lease: timedelta, kept: int, clock: Callable[[], datetime]) -> None:
        self._bucket: Bucket[Check] = Bucket(bus, "checks", Check)
        self._view: Replica[Check] = Replica(bus, "checks", Check, self._on_change)
        self._agenda = Agenda()
        self._replica = replica
        self._lease = lease
        self._kept = kept
        self._clock = clock
        self._changed = asyncio.Event()

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load the schedule and keep up with it."""
        await self._view.start(tasks)

    def due(self, most: int) -> list[str]:
        """Take up to `most` due configurations off the agenda; each is to be leased or put back with `later`."""
        return self._agenda.take(self._clock(), most)

    def later(self, configuration: str, seconds: float) -> None:
        """Put a configuration back on this replica's agenda, because it could not be leased now."""
        self._agenda.put(configuration, self._clock() + timedelta(seconds=seconds))

    async def wait(self, longest_seconds: float) -> None:
        """Wait until the next check is due, the schedule changes, or the time is over."""
        next_at = self._agenda.next_at()
        seconds = longest_seconds
        if next_at is not None:
            seconds = min(seconds, max((next_at - self._clock()).total_seconds(), 0.01))
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def lease(self, configuration: str) -> Lease | None:
        """Take a due check for this replica; None if it is another's, not due after all, or gone.

        A check that failed for want of the bus is taken again by the replica that holds it.

        Errors: `BusUnavailable`.
        """
        entry = await self._bucket.get(configuration)
        now = self._clock()
        if entry is None:
            return None
        # What this replica holds itself it may begin anew: it came to nothing, and each is on the agenda once.
        if _free_at(entry.record) > now and entry.record.holder != self._replica:
            self._enter(configuration, entry.record)
            return None
        held = msgspec.structs.replace(entry.record, holder=self._replica, held_until=now + self._lease)
        try:
            revision = await self._bucket.update(configuration, held, entry.revision)
        except WrongSequence:
            self.later(configuration, DEFERENCE_SECONDS)  # another's now; look again what became of it
            return None
        self._enter(configuration, held)
        return Lease(held, revision, was_abandoned=bool(entry.record.holder))

    async def give_back(self, lease: Lease, due_at: datetime, seen: tuple[Observation, ...]) -> None:
        """Finish a leased check: it is due again at `due_at`; `seen` is kept where it differs from before.

        Errors: `BusUnavailable`, and the lease then runs out by itself.
        """
        check = msgspec.structs.replace(
            lease.check, due_at=due_at, holder="", held_until=None, seen=remembered(lease.check.seen, seen, self._kept)
        )
        try:
            await self._bucket.update(check.configuration, check, lease.revision)
        except WrongSequence:
            return  # the configuration was deleted or our lease ran out: theirs is the newer word
        self._enter(check.configuration, check)

    async def ensure(self, configuration: str, due_at: datetime) -> None:
        """Put a configuration on the schedule if it is not there.

        Errors: `BusUnavailable`.
        """
        if self._view.get(configuration) is not None:
            return
        try:
            await self._bucket.create(configuration, Check(configuration=configuration, due_at=due_at))
        except WrongSequence:
            return  # another replica was faster

    async def reschedule(self, configuration: str, due_at: datetime, seen: tuple[Observation, ...] = ()) -> None:
        """Move a check nobody holds to `due_at`, and remember what was seen outside the schedule.

        Errors: `BusUnavailable`.
        """
        entry = await self._bucket.get(configuration)
        if entry is None:
            await self.ensure(configuration, due_at)
            return
        if entry.record.holder and _free_at(entry.record) > self._clock():
            return  # being checked right now
        check = msgspec.structs.replace(
            entry.record,
            due_at=due_at,
            holder="",
            held_until=None,
            seen=remembered(entry.record.seen, seen, self._kept),
        )
        try:
            await self._bucket.update(configuration, check, entry.revision)
        except WrongSequence:
            return  # taken meanwhile: it is being checked

    async def forget(self, configuration: str) -> None:
        """Take a configuration off the schedule.

        Errors: `BusUnavailable`.
        """
        if self._view.get(configuration) is not None:
            await self._bucket.delete(configuration)

    async def history(self, configuration: str) -> tuple[Sighting, ...]:
        """Return what was seen of a configuration, newest first.

        Errors: `BusUnavailable`.
        """
        entry = await self._bucket.get(configuration)
        return entry.record.seen if entry else ()

    def configurations(self) -> list[str]:
        """Return every configuration on the schedule."""
        return [key for key, _ in self._view.items()]

    def overdue_seconds(self) -> float:
        """Return how late the schedule is: the age of the longest due check."""
        next_at = self._agenda.next_at()
        return max((self._clock() - next_at).total_seconds(), 0.0) if next_at else 0.0

    def _on_change(self, configuration: str, check: Check | None) -> None:
        if check is None:
            self._agenda.remove(configuration)
        else:
            self._enter(configuration, check)
        self._changed.set()

    def _enter(self, configuration: str, check: Check) -> None:
        """Put a check on this replica's agenda for when it may be taken."""
        share = crc32(f"{self._replica}.{configuration}".encode()) / 2**32
        self._agenda.put(configuration, _free_at(check) + timedelta(seconds=DEFERENCE_SECONDS * share))


def _free_at(check: Check) -> datetime:
    """Return when a check may be taken: when it is due, or when its present holder must have died."""
    return check.held_until if check.holder and check.held_until is not None else check.due_at
