"""Metrics in IBM's shape: a window of time, cut into few enough buckets."""

import re
from datetime import UTC, datetime, timedelta

from services.control.core.fault import Fault

BUCKETS = 48
"""Most buckets IBM's clients expect."""
WIDTHS_SECONDS = (60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800, 2_592_000, 31_536_000)

_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
"""Buckets are counted from 1970 and reach beyond the window; before and after there is no mail."""
_TIME = re.compile(r"\d{1,4}-\d{1,2}-\d{1,2}T\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d{1,9})?Z")


def parse_time(text: str) -> datetime | None:
    """Read a time such as 2026-01-31T00:00:00Z; the digits of IBM's pattern need no leading zeros."""
    if len(text) > 30 or not _TIME.fullmatch(text):
        return None
    numbers = [int(part) for part in re.split(r"[-T:]", text[:-1].partition(".")[0])]
    try:
        return datetime(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], tzinfo=UTC)
    except ValueError:
        return None


def window(gte: str, lte: str) -> tuple[datetime, datetime] | tuple[Fault, ...]:
    """Return a window of time up to the second after `lte`, which is included, or what is wrong with it."""
    since, until = parse_time(gte), parse_time(lte)
    faults = tuple(
        Fault("invalid_time", f"{name} must be a time in UTC such as 2026-01-31T00:00:00Z", name)
        for name, at in (("gte", since), ("lte", until))
        if at is None
    )
    if since is None or until is None:
        return faults
    if since > until:
        return (Fault("invalid_window", "gte must not be later than lte", "gte"),)
    return _in_reach(since), _in_reach(until) + timedelta(seconds=1)


def _in_reach(at: datetime) -> datetime:
    return min(max(at, _FIRST), _LAST)


def bucket_seconds(since: datetime, until: datetime) -> int:
    """Return the least width of which at most `BUCKETS` cover the window, wherever their borders lie."""
    seconds = (until - since).total_seconds()
    return next((width for width in WIDTHS_SECONDS if seconds / width <= BUCKETS - 1), int(seconds))
