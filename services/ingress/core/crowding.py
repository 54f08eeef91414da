"""Who sends more at a time than others should wait behind: such mail goes to slots of its own.

The tenants of a slot share a queue. A tenant within its calm rate has no backlog there worth speaking of; one beyond it
would hold up the others, however fair delivery is to what it has in hand.
"""

TENANTS_KEPT = 20_000


class Crowding:
    """Token buckets of configurations, as one ingress process sees them. Time in seconds, of any origin."""

    def __init__(self, burst: int, per_second: float) -> None:
        """Let each configuration send `burst` messages at once, and so many a second."""
        self._burst = float(burst)
        self._per_second = per_second
        self._buckets: dict[str, tuple[float, float]] = {}
        """Configuration to what it had left, and when. Those who have sent last come last."""

    def count(self, configuration: str, now: float) -> bool:
        """Count a message; return whether it belongs to a crowd."""
        left, at = self._buckets.pop(configuration, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second) - 1
        if len(self._buckets) >= TENANTS_KEPT:
            self._buckets.pop(next(iter(self._buckets)))
        # Debt is bounded too: a crowd is calm again soon after it has gone.
        self._buckets[configuration] = (max(left, -self._burst), now)
        return left < 0
