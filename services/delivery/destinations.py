"""Limits and breakers of destinations (groups of exchangers), shared by all workers through the bucket `pressure`."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import NamedTuple

from services.delivery.core import breaker, share
from services.delivery.core.outcome import Outcome
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.notes import Notes
from shared.bus.replica import Replica
from shared.contract.siblings import Pressure
from shared.runtime import clock

BREAKERS_KEPT = 20_000
GROUPS_KEPT = 20_000
TOLD = 500
"""Destinations told of at most; beyond them every worker is on its own."""
TELL_SECONDS = 1.0
TRUSTED_SECONDS = 60.0
"""After a success of our own we do not believe for so long that the destination is down."""

PROBE_SECONDS = 60.0
"""After a pause the others leave it to us for so long to probe; we may have no mail to do it with."""


class _Waiter(NamedTuple):
    """Who waits for a place: done once it has one."""

    tenant: str
    admitted: asyncio.Future[None]


class _Group:
    """What this worker has at one destination."""

    __slots__ = ("claims", "next_at", "ramp", "served", "turn", "used", "waiting")

    def __init__(self) -> None:
        self.claims = 0
        """Those who have a place or want one; nobody forgets the group while there are any."""
        self.used = 0
        self.waiting: list[_Waiter] = []
        self.turn = 0
        self.served: dict[str, int] = {}
        """The turn at which each tenant had a place last, while any is taken."""
        self.ramp = 0
        """After a pause: places to begin with, doubled by each success; 0: no ramp."""
        self.next_at = 0.0
        """When the next message may begin, where there is a rate."""


class Destinations:
    """Places and breakers of this worker. Without a bus it is the only one."""

    def __init__(self, settings: DeliverySettings, bus: Bus | None = None, worker: str = "") -> None:
        self._limit = settings.domain_concurrency
        self._rate = settings.domain_messages_per_second
        self._worker = worker
        self._breaker_limits = breaker.Limits(
            failures=settings.breaker_failures,
            first_pause=settings.breaker_pause_seconds,
            longest_pause=settings.breaker_longest_pause_seconds,
        )
        self._groups: dict[str, _Group] = {}
        self._breakers: dict[str, breaker.Breaker] = {}
        self._good: dict[str, float] = {}
        self._told = False
        self.replica: Replica[Pressure] | None = None
        self._notes: Notes[Pressure] | None = None
        if bus is not None:
            self.replica = Replica(bus, "pressure", Pressure)
            self._notes = Notes(bus, "pressure", Pressure, TELL_SECONDS)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Read what the siblings told and begin to tell."""
        if self.replica is not None and self._notes is not None:
            await self.replica.start(tasks)
            self._notes.start(tasks)
            tasks.create_task(self._tell_on(), name="pressure")

    async def leave(self) -> None:
        """Tell that nothing is open here any more."""
        if self._notes is not None and self._told:
            self._groups.clear()
            self._breakers.clear()
            self._tell()
            await self._notes.leave()

    @asynccontextmanager
    async def place(self, group: str, tenant: str = "") -> AsyncIterator[None]:
        """Hold one of the places at a destination; tenants that wait for one have turns."""
        if len(self._groups) >= GROUPS_KEPT and group not in self._groups:
            self._groups = {name: each for name, each in self._groups.items() if each.claims}
        here = self._groups.setdefault(group, _Group())
        here.claims += 1
        try:
            await self._admitted(group, here, tenant)
            try:
                await self._in_turn(group, here)
                yield
            finally:
                here.used -= 1
                self._admit(group, here)
        finally:
            here.claims -= 1
            if not here.claims and not here.ramp and not self._rate:
                self._groups.pop(group, None)

    async def _admitted(self, group: str, here: _Group, tenant: str) -> None:
        """Wait until one of the places is taken for this tenant."""
        waiter = _Waiter(tenant, asyncio.get_running_loop().create_future())
        here.waiting.append(waiter)
        self._admit(group, here)
        try:
            while not waiter.admitted.done():
                # What the siblings have may change without any sign here: look again now and then.
                await asyncio.wait((waiter.admitted,), timeout=TELL_SECONDS)
                self._admit(group, here)
        except asyncio.CancelledError:
            if waiter.admitted.done():
                here.used -= 1
                self._admit(group, here)
            else:
                here.waiting.remove(waiter)
            raise

    def _admit(self, group: str, here: _Group) -> None:
        """Give free places to those who wait: to the tenant first that had none for longest, so that nobody starves."""
        while here.waiting and here.used < self._places(group, here):
            first = min(here.waiting, key=lambda each: here.served.get(each.tenant, 0))
            here.waiting.remove(first)
            here.turn += 1
            here.served[first.tenant] = here.turn
            here.used += 1
            first.admitted.set_result(None)
        if not here.used:
            here.served.clear()

    def paused(self, group: str, pool: str = "") -> str:
        """Return why a destination is left alone now, "" if a message may go; then `tried` must follow.

        Each pool of outgoing addresses has breakers of its own: what one has earned does not stop the others.
        """
        now, group = asyncio.get_running_loop().time(), _seen_from(group, pool)
        state = self._breakers.get(group, breaker.CLOSED)
        if not breaker.may_try(state, now):
            return state.reason
        if state == breaker.CLOSED and self._good.get(group, -TRUSTED_SECONDS) + TRUSTED_SECONDS <= now:
            elsewhere = share.open_elsewhere(group, self._siblings())
            if elsewhere:
                return f"as another worker found, {elsewhere}"
        self._remember(group, breaker.trying(state))
        return ""

    def tried(self, group: str, results: Iterable[Outcome], pool: str = "") -> None:
        """Take in what an attempt at a destination came to; no results: it was broken off."""
        here, group = self._groups.get(group), _seen_from(group, pool)
        now = asyncio.get_running_loop().time()
        before = self._breakers.get(group, breaker.CLOSED)
        after = breaker.after(before, results, now, self._breaker_limits)
        self._remember(group, after)
        if after == breaker.CLOSED and before.pause:
            self._good[group] = now
            if here is not None:
                here.ramp = 1  # after a pause not everything at once
        elif after == breaker.CLOSED and here is not None and here.ramp:
            here.ramp = here.ramp * 2 if here.ramp * 2 < self._limit else 0
        if len(self._good) > BREAKERS_KEPT:
            self._good.clear()

    def _remember(self, group: str, state: breaker.Breaker) -> None:
        if state == breaker.CLOSED:
            self._breakers.pop(group, None)
            return
        if len(self._breakers) >= BREAKERS_KEPT and group not in self._breakers:
            self._breakers.pop(next(iter(self._breakers)))  # the oldest; it is found out again if it matters
        self._breakers[group] = state

    def _places(self, group: str, here: _Group) -> int:
        allowed = share.places(self._limit, group, self._siblings())
        return min(allowed, here.ramp) if here.ramp else allowed

    async def _in_turn(self, group: str, here: _Group) -> None:
        """Wait until the rate of the destination lets another message begin."""
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        begin = max(now, here.next_at)
        here.next_at = begin + 1 / share.rate(self._rate, group, self._siblings())
        await asyncio.sleep(begin - now)

    def _siblings(self) -> list[Pressure]:
        if self.replica is None or len(self.replica) == 0:
            return []
        return share.fresh((record for _, record in self.replica.items()), self._worker, clock.now())

    async def _tell_on(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if self._groups or self._breakers or self._told:
                self._tell()

    def _tell(self) -> None:
        if self._notes is None:
            return
        now = asyncio.get_running_loop().time()
        busy = {group: here.used for group, here in self._groups.items() if here.claims}
        closed = {
            group: state.reason
            for group, state in self._breakers.items()
            if state.pause and now < state.open_until + PROBE_SECONDS
        }
        self._told = bool(busy or closed)  # once nothing is left that is told too, and then no more
        record = Pressure(
            worker=self._worker,
            at=clock.now(),
            connections=dict(sorted(busy.items(), key=lambda item: -item[1])[:TOLD]),
            open_breakers=dict(list(closed.items())[:TOLD]),
        )
        self._notes.note(self._worker, record)


def _seen_from(group: str, pool: str) -> str:
    """Return the name of a destination's breaker for a pool of our addresses; "" are those of everybody else."""
    return f"{group}; from {pool}" if pool else group
