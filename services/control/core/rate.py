"""A token bucket: so many requests at once, so many per second over time."""

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    """What is left of a caller's allowance, as of a moment in seconds."""

    tokens: float
    at: float


def take(bucket: Bucket | None, now: float, per_second: float, burst: int) -> tuple[Bucket, float]:
    """Take one token; return what is left, and how many seconds to wait if there was none (else 0)."""
    if bucket is None:
        return Bucket(burst - 1, now), 0.0
    tokens = min(float(burst), bucket.tokens + max(0.0, now - bucket.at) * per_second)
    if tokens >= 1:
        return Bucket(tokens - 1, now), 0.0
    return Bucket(tokens, now), (1 - tokens) / per_second
