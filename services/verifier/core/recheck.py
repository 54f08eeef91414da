"""When a configuration is checked next.

Verified configurations each have a fixed place in the interval, so 10,000 of them spread evenly over it whatever
happened at the same moment; the others are checked after a jittered wait. Chance comes in as a number in [0, 1).
"""

from datetime import UTC, datetime, timedelta
from zlib import crc32

import msgspec

from shared.contract.standing import Standing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PENDING_AGE_DIVISOR = 10
"""A pending configuration waits a tenth of the time it has been pending, between the two limits."""


class Intervals(msgspec.Struct, frozen=True, kw_only=True):
    """Usual time between two checks of a configuration, by state."""

    pending: timedelta
    """While it is new; the wait grows with its age up to `pending_at_most`."""
    pending_at_most: timedelta
    verified: timedelta
    degraded: timedelta
    """Also while suspended, and after a check that found nothing out."""


def next_check(standing: Standing, now: datetime, intervals: Intervals, chance: float) -> datetime:
    """Return when to check again after the check at `now`; always later than `now`."""
    if standing.state == "pending":
        age = max(now - standing.since, timedelta(0))
        wait = min(max(intervals.pending, age / _PENDING_AGE_DIVISOR), intervals.pending_at_most)
        return now + jittered(wait, chance)
    if standing.state == "verified" and standing.unknown_since is None:
        return in_place(standing.configuration, now, intervals.verified)
    return now + jittered(min(intervals.degraded, intervals.verified), chance)


def jittered(wait: timedelta, chance: float) -> timedelta:
    """Return between 80 % and 120 % of `wait`."""
    return wait * (0.8 + 0.4 * chance)


def in_place(configuration: str, now: datetime, interval: timedelta) -> datetime:
    """Return the next moment of the configuration's fixed place in the interval that is at least half of it away."""
    place = interval * (crc32(configuration.encode()) / 2**32)
    earliest = now + interval / 2
    passed = (earliest - _EPOCH - place) // interval
    return _EPOCH + place + interval * (passed + 1)


def first_check(now: datetime, spread: timedelta, chance: float) -> datetime:
    """Return when to check for the first time: soon, but not all at once when many appear together."""
    return now + spread * chance
