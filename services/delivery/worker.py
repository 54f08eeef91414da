"""Pulls messages fairly and keeps hold of them while they are in delivery.

One queue per lane and slot, filled by the consumers of all shards; a place in delivery goes to the transactional lane
first and round robin over its slots, and no configuration takes more than its share of places.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from typing import Protocol

from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.settings import Topology
from shared.bus.streams import PullConsumer, Taken
from shared.contract.records import LANES
from shared.contract.subjects import calm_slots, parse_place
from shared.runtime import clock

log = logging.getLogger("delivery")

EXTEND_SECONDS = 10.0
"""Interval at which holds are extended; the consumers' ack wait is three times that."""
POLL_SECONDS = 20.0
PULLS_AT_ONCE = 8
FRESH_SECONDS = 1.0
"""A pull that took longer may have got its messages at any time in between."""
GONE_SECONDS = 1.0
"""What a stopping worker gives back is offered again after that: at once, a pull of its own could still get it."""
TURN_SECONDS = 0.002
"""No mail of crowds is begun while a turn of the loop takes longer."""
PAUSE_SECONDS = 5.0
"""If the wall's clock moved by more than that against the loop's, a hold is uncertain until it is extended."""
MARKETING_SHARE = 10
"""Every so many places goes to the later lanes first, so that a full transactional lane does not starve them."""


class Carries(Protocol):
    """What takes one message one step further."""

    async def carry(self, held: "Held") -> None:
        """Take the next step; never raise."""

    async def park(self, held: "Held") -> None:
        """Put the message where it waits for a while, untried; never raise."""


class Held:
    """A message in our hands, from its pull until it is acked or given back."""

    __slots__ = ("_extended_at", "_pace", "_past_dot", "_taken", "_worker", "configuration", "done", "received_at")

    def __init__(self, worker: "Worker", taken: Taken, now: float) -> None:
        self._worker = worker
        self._taken = taken
        self._extended_at = now
        self._pace = worker.pace()
        place = parse_place(taken.subject)
        self.configuration = place.configuration if place is not None else ""
        self.received_at = worker.now()
        self.done = False
        self._past_dot = False

    @property
    def subject(self) -> str:
        """Where it lay."""
        return self._taken.subject

    @property
    def payload(self) -> bytes:
        """Carriage and mail."""
        return self._taken.payload

    @property
    def sequence(self) -> int:
        """Its sequence in its stream."""
        return self._taken.sequence

    @property
    def deliveries(self) -> int:
        """How often the server has handed it out, as far as the server knows."""
        return self._taken.deliveries

    @property
    def past_dot(self) -> bool:
        """The final dot may have been sent: from now on only the transaction's own end decides."""
        return self._past_dot

    async def ack(self) -> None:
        """Let it go."""
        self._worker.release(self)
        await self._taken.ack()

    async def give_back(self, delay_seconds: float) -> None:
        """Return it, to be offered again after a delay."""
        self._worker.release(self)
        await self._taken.nak(delay_seconds)

    def may_finish(self) -> bool:
        """Whether the hold is proven fresh enough that nobody else can have the message before the dot is answered."""
        paused = abs(self._worker.pace() - self._pace) > PAUSE_SECONDS
        fresh = self._worker.now() - self._extended_at < self._worker.hold_seconds
        certain = fresh and not paused and not self._worker.cut
        self._past_dot = self._past_dot or certain
        return certain

    async def extend(self) -> bool:
        """Ask the server to wait longer for the ack; False if that could not even be sent."""
        return await self._taken.in_progress()

    def extended(self, at: float) -> None:
        """Note that the server has received an extension sent at `at`."""
        self._extended_at = at
        self._pace = self._worker.pace()


class Worker:
    """The pulling side of delivery; its tasks belong to the room's TaskGroup."""

    def __init__(
        self, settings: DeliverySettings, topology: Topology, bus: Bus, carrier: Carries, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._carrier = carrier
        self._metrics = metrics
        self.hold_seconds = settings.hold_seconds
        self.cut = False
        """No final dot may be sent any more: the time for draining is over."""
        self._draining = False
        self._queues: dict[tuple[str, int], deque[Held]] = {
            (lane, slot): deque() for lane in LANES for slot in range(topology.slots)
        }
        self._calm = calm_slots(topology.slots)
        self._started_at = dict.fromkeys(self._queues, 0.0)
        self._rings = {lane: deque(range(topology.slots)) for lane in LANES}
        self._sources = [
            (lane, slot, PullConsumer(bus, stream, name))
            for lane in LANES
            for slot in range(topology.slots)
            for shard in range(topology.shards)
            for stream, name in ((f"MAIL_{shard}", f"{lane}-{slot}"), (f"RETRY_{shard}", f"due-{lane}-{slot}"))
        ]
        self._in_hand: set[Held] = set()
        self._carrying: dict[Held, asyncio.Task[None]] = {}
        self._bytes = 0
        self._asked = 0
        """Octets that pulls under way may bring."""
        self._pulls = asyncio.Semaphore(PULLS_AT_ONCE)
        self._alone = asyncio.Lock()
        self._busy = 0
        self._tenants: Counter[str] = Counter()
        self._turn = 0
        self._aside: deque[Held] = deque()
        """Blocked, to be parked one after the other."""
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Return the loop's clock."""
        return asyncio.get_running_loop().time()

    def pace(self) -> float:
        """Return by how much the loop's clock is behind the wall's: it stands still while the machine is suspended."""
        return clock.now_ms() / 1000 - self.now()

    @property
    def busy(self) -> int:
        """Messages in delivery now."""
        return self._busy

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
        begun = self.now()
        await self._until_idle(begun + self._settings.drain_seconds / 2)
        self.cut = True
        for held, task in list(self._carrying.items()):
            if not held.past_dot:
                task.cancel()
        await self._until_idle(begun + self._settings.drain_seconds)
        for held in self._carrying:
            log.warning("not finished in time, the next worker goes on", extra={"subject": held.subject})

    async def _until_idle(self, deadline: float) -> None:
        while self._carrying and self.now() < deadline:
            await self._wait(min(1.0, max(0.01, deadline - self.now())))

    def release(self, held: Held) -> None:
        """Forget a message that is acked or given back; harmless if it was before."""
        if held.done:
            return
        held.done = True
        self._in_hand.discard(held)
        self._bytes -= len(held.payload)
        self._changed.set()

    async def _pull(self, lane: str, slot: int, consumer: PullConsumer) -> None:
        queue = self._queues[lane, slot]
        while not self._draining:
            if len(queue) >= self._settings.pull_batch or self._room() <= 0:
                self._put_blocked_aside(lane, slot)
                await self._wait(1.0)
                continue
            new = await self._pulled(consumer)
            asked_at = self.now()
            if not new and self._room() > 0 and not self._draining:
                new = self._taken_in(await consumer.next(POLL_SECONDS), asked_at)
            if new and self.now() - asked_at > FRESH_SECONDS:
                await self._extend(new)  # it is not known when, within a long poll, the server handed them out
            queue.extend(new)
            if new:
                self._changed.set()
        await self._return_queued()  # a pull that was under way when the drain began

    def _room(self) -> int:
        """Return how many octets may still be pulled, if every pull that is under way brings all it may."""
        return self._settings.buffer_bytes - self._bytes - self._asked

    async def _pulled(self, consumer: PullConsumer) -> list[Held]:
        """Pull what is there. After an outage every consumer has mail, and all of them together must keep to the limit.

        A message larger than a pull is taken alone, one at a time in the process.
        """
        settings, new = self._settings, list[Held]()
        async with self._pulls:
            if self._room() <= 0:
                return new
            asked_at = self.now()
            self._asked += settings.pull_bytes
            try:
                new = self._taken_in(await consumer.fetch(settings.pull_batch, settings.pull_bytes, 0), asked_at)
            finally:
                awaited = self._room() <= 0
                self._asked -= settings.pull_bytes
                if awaited:
                    self._changed.set()
        while not new and consumer.too_large and not self._draining:
            async with self._alone:
                if self._room() > 0:
                    asked_at = self.now()
                    return self._taken_in(await consumer.next(0), asked_at)
            await self._wait(1.0)
        return new

    def _taken_in(self, pulled: list[Taken], asked_at: float) -> list[Held]:
        new = [Held(self, taken, asked_at) for taken in pulled]
        self._in_hand.update(new)
        self._bytes += sum(len(held.payload) for held in new)
        return new

    def _put_blocked_aside(self, lane: str, slot: int) -> None:
        """Clear a queue in which for a while every message was of a tenant without a free place.

        Else a tenant whose mail hangs at a dead destination would hold up the others of its slot. What is parked
        comes back by itself, the later the older it is.
        """
        queue = self._queues[lane, slot]
        if self._aside or self.now() - self._started_at[lane, slot] < self._settings.park_after_seconds:
            return
        blocked = [held for held in queue if not self._has_place(held.configuration)]
        if blocked:
            for held in blocked:
                queue.remove(held)
            self._aside.extend(blocked)
            self._changed.set()  # only now: who waits for a change without one would never let go of the loop

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
            held = self._next(crowds=turn <= TURN_SECONDS) if self._busy < self._settings.concurrency else None
            if held is not None:
                self._busy += 1
                self._tenants[held.configuration] += 1
                self._carrying[held] = tasks.create_task(self._carry(held), name="carry")
            elif turn <= TURN_SECONDS:
                await self._wait(1.0)
                continue
            began = time.perf_counter()
            await asyncio.sleep(0)
            turn = time.perf_counter() - began

    async def _return_queued(self) -> None:
        for queue in (*self._queues.values(), self._aside):
            while queue:
                await queue.popleft().give_back(GONE_SECONDS)

    async def _carry(self, held: Held) -> None:
        try:
            await self._carrier.carry(held)
        except asyncio.CancelledError:
            if self._draining and not held.past_dot:
                await held.give_back(GONE_SECONDS)  # nobody has it: another worker may begin
                return
            raise
        finally:
            self.release(held)
            del self._carrying[held]
            self._busy -= 1
            self._tenants[held.configuration] -= 1
            if not self._tenants[held.configuration]:
                del self._tenants[held.configuration]
            self._changed.set()

    def _next(self, *, crowds: bool) -> Held | None:
        """Return the message whose turn it is, or None if none may begin now."""
        self._turn += 1
        lanes = list(LANES) if self._turn % MARKETING_SHARE else list(reversed(LANES))
        for lane in lanes:
            ring = self._rings[lane]
            for _ in range(len(ring)):
                slot = ring[0]
                ring.rotate(-1)
                if slot >= self._calm and not crowds:
                    continue
                queue = self._queues[lane, slot]
                held = self._first_allowed(queue) if queue else None
                if held is not None:
                    self._started_at[lane, slot] = self.now()
                    return held
        return None

    def _first_allowed(self, queue: deque[Held]) -> Held | None:
        """Take the first message whose configuration has a place left; one tenant does not block the others."""
        for number, held in enumerate(queue):
            if self._has_place(held.configuration):
                del queue[number]
                return held
        return None

    def _has_place(self, configuration: str) -> bool:
        """Return whether a tenant may begin one more: it never takes more than are left for everybody else."""
        left = self._settings.concurrency - self._busy
        return self._tenants[configuration] < min(self._settings.tenant_concurrency, max(1, left))

    async def _hold(self) -> None:
        """Extend every hold in time, and count an extension only when the server has certainly received it."""
        while True:
            await self._extend(list(self._in_hand))
            self._metrics.in_flight.set(self._busy)
            self._metrics.buffered.set(sum(map(len, self._queues.values())))
            self._metrics.buffered_bytes.set(self._bytes)
            await asyncio.sleep(EXTEND_SECONDS)

    async def _extend(self, messages: list[Held]) -> None:
        at, epoch = self.now(), self._bus.epoch
        sent = [held for held in messages if await held.extend()]
        # What was sent on a connection that was lost meanwhile need not have been received.
        if sent and await self._bus.reached() and self._bus.epoch == epoch:
            for held in sent:
                held.extended(at)

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
