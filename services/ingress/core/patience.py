"""How long a failed login is kept waiting: exponential in recent failures, forgotten with time, bounded in memory."""

import math
from collections import OrderedDict
from collections.abc import Iterable

import msgspec


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

    def failed(self, keys: Iterable[str], at: float) -> None:
        """Count a failure for each key."""
        for key in keys:
            self._failures[key] = (self.recent(key, at) + 1.0, at)
            self._failures.move_to_end(key)
        while len(self._failures) > self._policy.keys:
            self._failures.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a key's failures, after a success."""
        self._failures.pop(key, None)

    def recent(self, key: str, at: float) -> float:
        """Return the failures of a key, each counting less with its age."""
        count, last = self._failures.get(key, (0.0, at))
        return count * math.pow(0.5, max(0.0, at - last) / self._policy.half_life_seconds)

    def delay(self, keys: Iterable[str], at: float) -> float:
        """Return the seconds the next failure of these keys waits: that of the worst key."""
        worst = max((self.recent(key, at) for key in keys), default=0.0) - self._policy.free
        if worst < 0:
            return 0.0
        return min(self._policy.cap_seconds, self._policy.base_seconds * math.pow(2.0, min(worst, 60.0)))
