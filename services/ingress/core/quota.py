"""The approved rate of a configuration, as a bucket that refills evenly: a full hour's share at most at once."""

import math

import msgspec


class Level(msgspec.Struct, frozen=True):
    """Messages a configuration may still send, as of a time in seconds of any origin."""

    left: float
    at: float


def refill(level: Level | None, messages_per_hour: int, now: float) -> Level:
    """Return the level now."""
    if level is None:
        return Level(float(messages_per_hour), now)
    gained = max(0.0, now - level.at) * messages_per_hour / 3600
    return Level(min(float(messages_per_hour), level.left + gained), now)


def wait_seconds(level: Level, messages_per_hour: int) -> int:
    """Return 0 if a message may go now, else the seconds until one may."""
    if level.left >= 1.0:
        return 0
    return max(1, math.ceil((1.0 - level.left) * 3600 / messages_per_hour))
