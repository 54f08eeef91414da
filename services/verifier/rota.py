"""Which replica checks what: leases in the bucket `checks`, taken and given back by compare-and-set.

Every replica sees all leases; one that finds a check due and free writes its name into it, and whoever loses that race
moves on. A holder that dies leaves a lease that runs out, and the check is due again: none is done twice while its
holder lives, none is lost when it dies.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from zlib import crc32

import msgspec

from services.verifier.core.agenda import Agenda
from services.verifier.core.drift import remembered
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.errors import WrongSequence
from shared.contract.standing import Check, Observation, Sighting

log = logging.getLogger("verifier")

DEFERENCE_SECONDS = 0.5
"""A due check is taken up to so much later, by a hash of replica and configuration, so that replicas rarely race."""


JUMP_SECONDS = 30.0
"""A wall clock that moves so far against the monotonic one was set."""


class Lease(msgspec.Struct, frozen=True):
    """A check this replica holds."""

    check: Check
    revision: int
    was_abandoned: bool
    """The holder before did not finish: what it last wrote may not have been broadcast."""


class Rota:
    """The shared schedule as this replica sees it."""

    def __init__(
        self,
        bus: Bus,
        replica: str,
        *,
        lease: timedelta,
        longest: timedelta,
        kept: int,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`longest` is the longest a check may lie ahead: one further away was planned by a wrong clock."""
        self._bucket: Bucket[Check] = Bucket(bus, "checks", Check)
        self._view: Replica[Check] = Replica(bus, "checks", Check, self._on_change)
        self._agendas = {doubtful: Agenda() for doubtful in (False, True)}
        self._replica = replica
        self._lease = lease
        self._longest = longest
        self._kept = kept
        self._clock = clock
        self._monotonic = monotonic
        self._started_at = self._wall_start()
        self._changed = asyncio.Event()

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load the schedule and keep up with it."""
        await self._view.start(tasks)

    def due(self, most: int, *, doubtful: bool) -> list[str]:
        """Take up to `most` due configurations off the agenda, those last found doubtful or the others.

        Each is to be leased, or put back with `later`.
        """
        self._follow_clock()
        return self._agendas[doubtful].take(self._clock(), most)

    def later(self, configuration: str, seconds: float) -> None:
        """Put a configuration back on this replica's agenda, because it could not be leased now."""
        check = self._view.get(configuration)
        at = self._clock() + timedelta(seconds=seconds)
        self._agendas[check is not None and check.doubtful].put(configuration, at)

    async def wait(self, longest_seconds: float, *, doubtful_too: bool) -> None:
        """Wait until the next check is due, the schedule changes, or the time is over."""
        seconds = longest_seconds
        for doubtful, agenda in self._agendas.items():
            next_at = agenda.next_at()
            if next_at is not None and (doubtful_too or not doubtful):
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
        if self._free_at(entry.record) > now and entry.record.holder != self._replica:
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

    async def give_back(self, lease: Lease, due_at: datetime, seen: tuple[Observation, ...], *, doubtful: bool) -> None:
        """Finish a leased check: it is due again at `due_at`; `seen` is kept where it differs from before.

        Errors: `BusUnavailable`, and the lease then runs out by itself.
        """
        check = msgspec.structs.replace(
            lease.check,
            due_at=due_at,
            holder="",
            held_until=None,
            doubtful=doubtful,
            seen=remembered(lease.check.seen, seen, self._kept),
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
        if entry.record.holder and self._free_at(entry.record) > self._clock():
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
        nexts = [at for agenda in self._agendas.values() if (at := agenda.next_at()) is not None]
        return max((self._clock() - min(nexts)).total_seconds(), 0.0) if nexts else 0.0

    def _on_change(self, configuration: str, check: Check | None) -> None:
        if check is None:
            for agenda in self._agendas.values():
                agenda.remove(configuration)
        else:
            self._enter(configuration, check)
        self._changed.set()

    def _enter(self, configuration: str, check: Check) -> None:
        """Put a check on this replica's agenda for when it may be taken."""
        share = crc32(f"{self._replica}.{configuration}".encode()) / 2**32
        self._agendas[not check.doubtful].remove(configuration)
        at = self._free_at(check) + timedelta(seconds=DEFERENCE_SECONDS * share)
        self._agendas[check.doubtful].put(configuration, at)

    def _free_at(self, check: Check) -> datetime:
        """Return when a check may be taken: when it is due, or when its present holder must have died."""
        at = check.held_until if check.holder and check.held_until is not None else check.due_at
        now = self._clock()
        return now if at > now + self._longest else at

    def _follow_clock(self) -> None:
        """Look at every check again if the wall clock was set: what lay ahead may be due, or was planned wrongly."""
        started_at = self._wall_start()
        if abs((started_at - self._started_at).total_seconds()) > JUMP_SECONDS:
            log.warning("the clock was set by %s, the schedule is read again", started_at - self._started_at)
            self._started_at = started_at
            for configuration, check in self._view.items():
                self._enter(configuration, check)

    def _wall_start(self) -> datetime:
        """Return what the wall clock showed when the monotonic one began: it stays, until somebody sets the clock."""
        return self._clock() - timedelta(seconds=self._monotonic())
