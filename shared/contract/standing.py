"""What the verifier sees and holds of each sender domain: observations, the standing, the shared list of checks."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.contract.records import Record

StandingState = Literal["pending", "verified", "degraded", "suspended"]
Verdict = Literal["pass", "fail", "unknown"]


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What the verifier saw of one record, as evidence."""

    verdict: Verdict
    detail: str
    """One sentence a customer can act on."""
    name: str
    """The DNS name asked."""
    at: datetime
    rcode: str = ""
    resolver: str = ""
    ttl: int | None = None
    values: tuple[str, ...] = ()
    """The TXT values seen, strings joined."""


NoticeKind = Literal["verified", "degraded", "repaired", "suspended", "resumed", "waiting"]
"""What contacts are told of: it may send · records fail, mail still flows · they are back in time · sending stopped ·
sending goes on · nothing found in 72 hours."""


class OwedNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that is due and not yet known to be on the bus; its identity follows from the fields."""

    kind: NoticeKind
    at: datetime
    """When what it tells of happened."""
    reason: str = ""
    """What had been seen then."""


class Standing(Record, frozen=True, kw_only=True, tag="standing.v1"):
    """What the verifier holds of a configuration. Bucket `standing`, key `<configuration>`; the verifier alone writes.

    New mail is admitted in the states verified and degraded, if the operator's authorization is approved too.
    """

    configuration: str
    instance: str
    domain: str
    state: StandingState
    reason: str
    since: datetime
    spf: Observation | None = None
    dkim: Observation | None = None
    next_dkim: Observation | None = None
    """What was seen of the key a rotation introduces."""
    ed25519: Observation | None = None
    """What was seen of the second signing key, if there is one; no standing depends on it."""
    failures: int = 0
    """Consecutive definitive failures."""
    failing_since: datetime | None = None
    unknown_since: datetime | None = None
    """Since when checks could not find out, None if the last one could."""
    checked_at: datetime | None = None
    next_check_at: datetime | None = None
    owed: tuple[OwedNotice, ...] = ()
    """Notices to request; written together with the state they tell of, so that a crash loses none."""
    degraded_told_at: datetime | None = None
    """When contacts were last told that records fail."""
    waiting_told_at: datetime | None = None
    """When contacts were told that the records did not appear."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """An observation and until when later checks saw the same."""

    observation: Observation
    until: datetime


class Check(Record, frozen=True, kw_only=True, tag="check.v1"):
    """When a configuration is checked next, and by whom. Bucket `checks`, key `<configuration>`.

    Replicas of the verifier share the work by compare-and-set. A check is free when nobody holds it, or when its
    holder's time has run out (it died).
    """

    configuration: str
    due_at: datetime
    holder: str = ""
    """The replica that is checking now."""
    held_until: datetime | None = None
    doubtful: bool = False
    """The last check found nothing out; such checks take long and get only a part of the verifier's capacity."""
    seen: tuple[Sighting, ...] = ()
    """What was seen, newest first, one entry per change of what was seen."""
