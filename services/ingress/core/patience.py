"""How long a failed login is kept waiting: exponential in recent failures, forgotten with time, bounded in memory.

Failures that sibling processes have seen count like our own.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from heapq import nlargest
from operator import itemgetter

import msgspec

SIBLINGS = 64
WORTH_TELLING = 0.5
"""Failures below this are not told to siblings."""


class PatiencePolicy(msgspec.Struct, frozen=True):
    """The curve of the delay."""

    free: int = 3
    """Recent failures without a delay."""
    base_seconds: float = 0.5
    cap_seconds: float = 20.0
    half_life_seconds: float = 300.0
    keys: int = 100_000
    """Most keys remembered; the ones longest without a failure go first."""


class Patience:
    """Recent failures by key (a user, an address, a network). The owner passes the time in seconds, of any origin."""

    def __init__(self, policy: PatiencePolicy) -> None:
        """Start with no failures."""
        self._policy = policy
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._foremost: dict[str, None] = {}
        """The keys with the most failures when that was last asked, and those that failed since.

        All fade alike, so no other key can have overtaken them, and not all have to be looked at every second.
        """
        self._siblings: dict[str, tuple[Mapping[str, float], float]] = {}

    def failed(self, keys: Iterable[str], at: float) -> None:
        """Count a failure for each key."""
        for key in keys:
            self._failures[key] = (self._decayed(*self._failures.get(key, (0.0, at)), at) + 1.0, at)
            self._failures.move_to_end(key)
            self._foremost[key] = None
        while len(self._failures) > self._policy.keys:
            self._failures.popitem(last=False)

    def heard(self, sibling: str, failures: Mapping[str, float] | None, at: float) -> None:
        """Take up what a sibling has seen at a time; None: it is gone."""
        self._siblings.pop(sibling, None)
        if failures is not None and len(self._siblings) < SIBLINGS:
            self._siblings[sibling] = (failures, at)

    def worst(self, most: int, at: float) -> dict[str, float]:
        """Return the keys with the most failures of our own, for the siblings."""
        counts = [(key, self._decayed(*self._failures[key], at)) for key in self._foremost if key in self._failures]
        first = nlargest(most, counts, key=itemgetter(1))
        self._foremost = {key: None for key, _ in first}
        return {key: count for key, count in first if count >= WORTH_TELLING}

    def recent(self, key: str, at: float) -> float:
        """Return the failures of a key, each counting less with its age."""
        own = self._decayed(*self._failures.get(key, (0.0, at)), at)
        return own + sum(
            self._decayed(failures[key], then, at) for failures, then in self._siblings.values() if key in failures
        )

    def delay(self, keys: Iterable[str], at: float) -> float:
        """Return the seconds the next failure of these keys waits: that of the worst key."""
        worst = max((self.recent(key, at) for key in keys), default=0.0) - self._policy.free
        if worst < 0:
            return 0.0
        return min(self._policy.cap_seconds, self._policy.base_seconds * math.pow(2.0, min(worst, 60.0)))

    def _decayed(self, count: float, last: float, at: float) -> float:
        return count * math.pow(0.5, max(0.0, at - last) / self._policy.half_life_seconds)
