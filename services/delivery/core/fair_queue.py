"""Fair queueing: whose turn it is among the messages that wait for a place in delivery.

One queue per lane and slot. A place goes to the transactional lane first and round robin over its slots, and no tenant
takes more than its share of places.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from shared.contract.records import LANES
from shared.contract.subjects import calm_slots

MARKETING_SHARE = 10
"""Every so many places goes to the later lanes first, so that a full transactional lane does not starve them."""


class Waiting(Protocol):
    """What waits for a place."""

    @property
    def configuration(self) -> str:
        """The tenant among whose places it counts."""


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """What waits, by lane and slot, and the places that are taken, by tenant. Times are seconds of any steady clock."""

    def __init__(self, slots: int, places: int, tenant_places: int) -> None:
        self._places = places
        self._tenant_places = tenant_places
        self._queues: dict[tuple[str, int], deque[T]] = {
            (lane, slot): deque() for lane in LANES for slot in range(slots)
        }
        self._began_at = dict.fromkeys(self._queues, 0.0)
        self._rings = {lane: deque(range(slots)) for lane in LANES}
        self._calm = calm_slots(slots)
        self._turn = 0
        self._tenants: Counter[str] = Counter()
        self.taken = 0
        """Places that are taken."""

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._queues.values()))

    def waiting(self, lane: str, slot: int) -> int:
        """Return how many wait there."""
        return len(self._queues[lane, slot])

    def add(self, lane: str, slot: int, new: Iterable[T]) -> None:
        """Let these wait behind the others there."""
        self._queues[lane, slot].extend(new)

    def next(self, now: float, *, crowds: bool) -> T | None:
        """Return the one whose turn it is, its place taken; None if none may begin now. Crowds wait unless `crowds`."""
        if self.taken >= self._places:
            return None
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
                first = self._first_allowed(queue) if queue else None
                if first is not None:
                    self._began_at[lane, slot] = now
                    self.taken += 1
                    self._tenants[first.configuration] += 1
                    return first
        return None

    def leave(self, one: T) -> None:
        """Free the place of one whose turn has come and which is done."""
        self.taken -= 1
        self._tenants[one.configuration] -= 1
        if not self._tenants[one.configuration]:
            del self._tenants[one.configuration]

    def blocked(self, lane: str, slot: int, since: float) -> list[T]:
        """Clear a queue from which nothing began since then, of all that is of tenants without a free place.

        Else a tenant whose mail hangs at a dead destination would hold up the others of its slot.
        """
        if self._began_at[lane, slot] > since:
            return []
        queue = self._queues[lane, slot]
        blocked = [one for one in queue if not self._has_place(one.configuration)]
        for one in blocked:
            queue.remove(one)
        return blocked

    def rest(self) -> Iterator[T]:
        """Take out all that waits, one by one."""
        for queue in self._queues.values():
            while queue:
                yield queue.popleft()

    def _first_allowed(self, queue: deque[T]) -> T | None:
        """Take the first one whose tenant has a place left; one tenant does not block the others."""
        for number, one in enumerate(queue):
            if self._has_place(one.configuration):
                del queue[number]
                return one
        return None

    def _has_place(self, configuration: str) -> bool:
        """Return whether a tenant may begin one more: it never takes more than are left for everybody else."""
        left = self._places - self.taken
        return self._tenants[configuration] < min(self._tenant_places, max(1, left))
