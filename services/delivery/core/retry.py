"""When to try again: back-off with jitter, wait hints of servers, the end of a message's lifetime."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from services.delivery.core.outcome import Deferred, Outcome
from services.delivery.core.wording import HINT_LIMIT_SECONDS
from shared.contract.envelope import FINAL, Envelope, RecipientState
from shared.contract.records import Configuration

PARKED_LEAST_SECONDS = 10.0
PARKED_MOST_SECONDS = 900.0
CLOCKS_SECONDS = 3600.0
"""By so much the clocks of two workers may differ without being in doubt."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """How attempts are spaced; from settings, in seconds so that tests can use small ones."""

    waits_seconds: tuple[float, ...]
    """Wait after attempt 1, 2, …; the last one repeats."""
    jitter: float
    """Part of a wait that chance may add or take, 0 to 1: spreads what failed together."""


def next_attempt(
    attempt: int, schedule: Schedule, now: datetime, chance: float, hint_seconds: int = 0, *, greylisted: bool = False
) -> datetime:
    """Return when to make the attempt after number `attempt` (counted from 1).

    `chance` is uniform in [0, 1). A server's hint is a floor under the wait, never a way to be called back sooner.
    `greylisted`: whoever comes back too early waits all the longer, so chance only adds to the wait.
    """
    position = min(max(attempt, 1), len(schedule.waits_seconds)) - 1
    wait = schedule.waits_seconds[position]
    wait *= 1 + schedule.jitter * (chance if greylisted else 2 * chance - 1)
    return now + timedelta(seconds=max(wait, hint_seconds, 0))


def after_attempt(
    attempt: int,
    recipients: Iterable[RecipientState],
    outcomes: Iterable[Outcome],
    schedule: Schedule,
    now: datetime,
    chance: float,
    expires_at: datetime,
) -> datetime | None:
    """Return when the recipients that attempt number `attempt` left open are tried again, None if there are none."""
    if all(r.status in FINAL for r in recipients):
        return None
    deferred = [o for o in outcomes if isinstance(o, Deferred)]
    hint = max((o.wait_seconds for o in deferred), default=0)
    greylisted = any(o.greylisted for o in deferred)
    next_at = next_attempt(attempt, schedule, now, chance, hint, greylisted=greylisted)
    return min(next_at, expires_at) if expires_at > now else next_at  # later only for one that came late


def too_far(due_at: datetime, schedule: Schedule, now: datetime) -> bool:
    """Return whether no wait could have led to this time: it was chosen while the clock was ahead."""
    longest = max(*schedule.waits_seconds, HINT_LIMIT_SECONDS, PARKED_MOST_SECONDS * 1.5) * (1 + schedule.jitter)
    return (due_at - now).total_seconds() > longest + CLOCKS_SECONDS


def parked_until(received_at: datetime, now: datetime, chance: float) -> datetime:
    """Return when a message comes back that had no chance to be tried: the later the longer it has waited already."""
    age = (now - received_at).total_seconds()
    wait = min(max(age / 2, PARKED_LEAST_SECONDS), PARKED_MOST_SECONDS)
    return now + timedelta(seconds=wait * (0.5 + chance))


def expiry(envelope: Envelope, configuration: Configuration | None, lifetime_seconds: float) -> datetime:
    """Return when delivery gives up: at the end of the configuration's lifetime, else of the one that all others have.

    The envelope's own time counts if it is earlier: a sender may shorten the lifetime, not lengthen it.
    """
    lifetime = (configuration.lifetime_seconds if configuration else None) or lifetime_seconds
    end = envelope.received_at + timedelta(seconds=lifetime)
    return end if envelope.expires_at is None else min(envelope.expires_at, end)
