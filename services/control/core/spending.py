"""What was sent of a quota, added up from what every ingress process tells."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from shared.contract.siblings import Spending

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Messages of one key in the present hour and day of UTC."""

    this_hour: int
    this_day: int


def spent(told: Iterable[Spending], key: str, at: datetime) -> Spent:
    """Add up what all processes have told of a configuration or a user; what is of an earlier hour or day is over."""
    hours, days = int(at.timestamp() // HOUR.total_seconds()), int(at.timestamp() // DAY.total_seconds())
    entries = list(told)
    return Spent(
        this_hour=sum(each.this_hour.get(key, 0) for each in entries if each.hour == hours),
        this_day=sum(each.this_day.get(key, 0) for each in entries if each.day == days),
    )


def held(told: Iterable[Spending], configuration: str, since: datetime) -> int:
    """Add up the messages accepted to be held since a suspension began."""
    key = f"{configuration} {since:%Y-%m-%dT%H:%M:%S}"
    return sum(each.held.get(key, 0) for each in told)


def next_hour(at: datetime) -> datetime:
    """Return when hourly quotas start anew."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + HOUR


def next_day(at: datetime) -> datetime:
    """Return when daily quotas start anew."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + DAY
