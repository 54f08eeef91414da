"""Counts over time: which bucket a moment falls into, and what a state counts as."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from shared.contract.requests import CountBucket

BUCKETS_LIMIT = 5000
"""Most buckets in one answer."""

Measure = Literal["submitted", "success", "bounced", "deferred"]
SUCCESS = frozenset({"delivered"})
BOUNCED = frozenset({"bounced", "expired", "suppressed"})
"""A recipient we gave up on, or never tried because it is known not to exist."""


class Tally(msgspec.Struct, frozen=True):
    """So many recipients in the bucket that begins at `start` (seconds since 1970)."""

    measure: Measure
    start: int
    count: int


def bucket_start(at: datetime, bucket_seconds: int) -> int:
    """Return when the bucket of a moment begins, in seconds since 1970; buckets are aligned to that date."""
    seconds = int(at.timestamp() // 1)
    return seconds - seconds % bucket_seconds


def buckets(since: datetime, until: datetime, bucket_seconds: int, tallies: Iterable[Tally]) -> tuple[CountBucket, ...]:
    """Return every bucket that overlaps [since, until), oldest first, also the empty ones."""
    first = bucket_start(since, bucket_seconds)
    last = bucket_start(until - timedelta(microseconds=1), bucket_seconds) if until > since else first - 1
    counts: dict[int, dict[str, int]] = {start: {} for start in range(first, last + 1, bucket_seconds)}
    for tally in tallies:
        if tally.start in counts:
            counts[tally.start][tally.measure] = counts[tally.start].get(tally.measure, 0) + tally.count
    return tuple(CountBucket(at=datetime.fromtimestamp(start, UTC), **found) for start, found in counts.items())
