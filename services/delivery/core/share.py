"""A worker's share of what all workers together may do at one destination, from what each of them last told.

Each worker tells about once a second what it has open, and needs no answer: whoever is not heard of for a while does
not count. Together they stay at the limit, but for one place per worker and for what began before it was told.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.contract.siblings import Pressure

FRESH = timedelta(seconds=10)
"""How long what a worker told counts."""


def fresh(told: Iterable[Pressure], own: str, now: datetime) -> list[Pressure]:
    """Return what the other workers told lately. A time to come is that of a wrong clock, perhaps of a dead worker."""
    return [each for each in told if each.worker != own and abs(now - each.at) < FRESH]


def places(limit: int, group: str, siblings: Iterable[Pressure]) -> int:
    """Return how many transactions a worker may have at a destination: at least one, so that nobody starves."""
    theirs = [each.connections[group] for each in siblings if group in each.connections]
    if not theirs:
        return limit
    return max(1, min(limit // (len(theirs) + 1), limit - sum(theirs)))


def rate(per_second: float, group: str, siblings: Iterable[Pressure]) -> float:
    """Return how many messages per second a worker may begin at a destination."""
    return per_second / (1 + sum(group in each.connections for each in siblings))


def open_elsewhere(group: str, siblings: Iterable[Pressure]) -> str:
    """Return why another worker leaves a destination alone, "" if none does."""
    return next((each.open_breakers[group] for each in siblings if group in each.open_breakers), "")
