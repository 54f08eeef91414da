"""Pulls messages from the consumers of all shards, begins each when its turn comes, and keeps their leases alive.

Whose turn it is: `core.fair_queue`. What it means to have a message in hand: `leases`.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from services.delivery.core.fair_queue import FairQueue
from services.delivery.leases import EXTEND_SECONDS, Lease, Leases
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.settings import Topology
from shared.bus.streams import PullConsumer
from shared.contract.records import LANES
from shared.contract.subjects import mail_stream, retry_stream

log = logging.getLogger("delivery")

POLL_SECONDS = 20.0
PULLS_AT_ONCE = 8
FRESH_SECONDS = 1.0
"""A pull that took longer may have got its messages at any time in between."""
GONE_SECONDS = 1.0
"""What a stopping worker gives back is offered again after that: at once, a pull of its own could still get it."""
TURN_SECONDS = 0.002
"""No mail of crowds is begun while a turn of the loop takes longer."""


class Carries(Protocol):
    """What takes one message one step further."""

    async def carry(self, lease: Lease) -> None:
        """Take the next step; never raise."""

    async def park(self, lease: Lease) -> None:
        """Put the message where it waits for a while, untried; never raise."""


class Worker:
    """The pulling side of delivery; its tasks belong to the room's TaskGroup."""

    def __init__(
        self,
        settings: DeliverySettings,
        topology: Topology,
        bus: Bus,
        carrier: Carries,
        metrics: Metrics,
        break_off: Callable[[], None] = lambda: None,
    ) -> None:
        """Pull for `carrier`; `break_off` ends all of its transactions that have not come to a final dot."""
        self._settings = settings
        self._break_off = break_off
        self._carrier = carrier
        self._metrics = metrics
        self.leases = Leases(bus, settings.hold_seconds, self._tell)
        self._queue = FairQueue[Lease](topology.slots, settings.concurrency, settings.tenant_concurrency)
        self._draining = False
        self._sources = [
            (lane, slot, PullConsumer(bus, stream, name))
            for lane in LANES
            for slot in range(topology.slots)
            for shard in range(topology.shards)
            for stream, name in ((mail_stream(shard), f"{lane}-{slot}"), (retry_stream(shard), f"due-{lane}-{slot}"))
        ]
        self._carrying: dict[Lease, asyncio.Task[None]] = {}
        self._asked = 0
        """Octets that pulls under way may bring."""
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._alone = asyncio.Lock()
        self._aside: deque[Lease] = deque()
        """Blocked, to be parked one after the other."""
        self._changed = asyncio.Event()

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin pulling, dispatching and holding."""
        for lane, slot, consumer in self._sources:
            tasks.create_task(self._pull(lane, slot, consumer), name=f"pull {lane} {slot}")
        tasks.create_task(self._dispatch(tasks), name="dispatch")
        tasks.create_task(self._park(), name="park")
        tasks.create_task(self._hold(), name="hold")

    async def drain(self) -> None:
        """Take nothing more, give back what has not begun, let transactions end within their time.

        Half of the time is for whole attempts; then those that have not come to the final dot are given back. What is
        past the dot has the rest of the time; after that the next worker finds it and marks it as possibly delivered.
        """
        self._draining = True
        await self._return_queued()
        begun = self.leases.now()
        await self._until_idle(begun + self._settings.drain_seconds / 2)
        self.leases.cut = True
        for lease, task in list(self._carrying.items()):
            if not lease.past_dot:
                task.cancel()
        self._break_off()  # of messages that one destination has perhaps taken already
        await self._until_idle(begun + self._settings.drain_seconds)
        for lease in self._carrying:
            log.warning("not finished in time, the next worker goes on", extra={"subject": lease.subject})

    async def _until_idle(self, deadline: float) -> None:
        while self._carrying and self.leases.now() < deadline:
            await self._wait(min(1.0, max(0.01, deadline - self.leases.now())))

    async def _pull(self, lane: str, slot: int, consumer: PullConsumer) -> None:
        while not self._draining:
            if self._queue.waiting(lane, slot) >= self._settings.pull_batch or self._room() <= 0:
                self._put_blocked_aside(lane, slot)
                await self._wait(1.0)
                continue
            new = await self._pulled(consumer)
            asked_at = self.leases.now()
            if not new and self._room() > 0 and not self._draining:
                new = self.leases.begin(await consumer.next(POLL_SECONDS), asked_at)
            if new and self.leases.now() - asked_at > FRESH_SECONDS:
                await self.leases.extend(new)  # it is not known when, within a long poll, the server handed them out
            self._queue.add(lane, slot, new)
            if new:
                self._tell()
        await self._return_queued()  # a pull that was under way when the drain began

    def _room(self) -> int:
        """Return how many octets may still be pulled, if every pull that is under way brings all it may."""
        return self._settings.buffer_bytes - self.leases.octets - self._asked

    async def _pulled(self, consumer: PullConsumer) -> list[Lease]:
        """Pull what is there. After an outage every consumer has mail, and all of them together must keep to the limit.

        A message larger than a pull is taken alone, one at a time in the process.
        """
        settings, new = self._settings, list[Lease]()
        async with self._pulls:
            if self._room() <= 0:
                return new
            asked_at = self.leases.now()
            self._asked += settings.pull_bytes
            try:
                new = self.leases.begin(await consumer.fetch(settings.pull_batch, settings.pull_bytes, 0), asked_at)
            finally:
                awaited = self._room() <= 0
                self._asked -= settings.pull_bytes
                if awaited:
                    self._tell()
        while not new and consumer.too_large and not self._draining:
            async with self._alone:
                if self._room() > 0:
                    asked_at = self.leases.now()
                    return self.leases.begin(await consumer.next(0), asked_at)
            await self._wait(1.0)
        return new

    def _put_blocked_aside(self, lane: str, slot: int) -> None:
        """Clear a queue that stood still for long. What is parked comes back by itself, the later the older it is."""
        if self._aside:
            return
        blocked = self._queue.blocked(lane, slot, self.leases.now() - self._settings.park_after_seconds)
        if blocked:
            self._aside.extend(blocked)
            self._tell()  # only now: who waits for a change without one would never let go of the loop

    async def _park(self) -> None:
        """Park what was put aside at an even pace: each is stored, and stored again when it comes back."""
        while True:
            if self._aside:
                await self._carrier.park(self._aside.popleft())
                await asyncio.sleep(1 / self._settings.park_messages_per_second)
            else:
                await self._wait(1.0)

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Begin what may begin. Crowds wait while the loop is busy: all else in delivery waits for every turn of it."""
        turn = 0.0
        while not self._draining:
            lease = self._queue.next(self.leases.now(), crowds=turn <= TURN_SECONDS)
            if lease is not None:
                self._carrying[lease] = tasks.create_task(self._carry(lease), name="carry")
            elif turn <= TURN_SECONDS:
                await self._wait(1.0)
                continue
            began = time.perf_counter()
            await asyncio.sleep(0)
            turn = time.perf_counter() - began

    async def _return_queued(self) -> None:
        for lease in self._queue.rest():
            await lease.give_back(GONE_SECONDS)
        while self._aside:
            await self._aside.popleft().give_back(GONE_SECONDS)

    async def _carry(self, lease: Lease) -> None:
        try:
            await self._carrier.carry(lease)
        except asyncio.CancelledError:
            if self._draining and not lease.past_dot:
                await lease.give_back(GONE_SECONDS)  # nobody has it: another worker may begin
                return
            raise
        finally:
            self.leases.end(lease)
            del self._carrying[lease]
            self._queue.leave(lease)
            self._tell()

    async def _hold(self) -> None:
        """Extend every lease in time."""
        while True:
            await self.leases.extend()
            self._metrics.in_flight.set(self._queue.taken)
            self._metrics.buffered.set(len(self._queue))
            self._metrics.buffered_bytes.set(self.leases.octets)
            await asyncio.sleep(EXTEND_SECONDS)

    def _tell(self) -> None:
        self._changed.set()

    async def _wait(self, seconds: float) -> None:
        """Wait until something in hand has changed, or a moment."""
        waiter = self._changed
        try:
            async with asyncio.timeout(seconds):
                await waiter.wait()
        except TimeoutError:
            return
        if waiter is self._changed:
            self._changed = asyncio.Event()
