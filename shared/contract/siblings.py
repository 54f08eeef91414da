"""What the replicas of one room tell each other, through a bucket only that room writes.

Like the records of the directory: tagged, in JSON, fields only ever added.
"""

from datetime import datetime
from typing import Literal

from shared.contract.records import Lane, Record


class LoginFailures(Record, frozen=True, kw_only=True, tag="login-failures.v1"):
    """Recent failed logins one ingress process has seen. Bucket `logins`, key `<process>`; read by its siblings."""

    process: str
    at: datetime
    """When the counts were true; with age they count less."""
    failures: dict[str, float]
    """Digest of a user, an address or a network to its recent failures."""


class PasswordUse(Record, frozen=True, kw_only=True, tag="password-use.v1"):
    """When a password was last used. Bucket `usage`, key `<configuration>.<user>.<password>`; written now and then."""

    at: datetime
    address: str
    banner: str = ""
    """The name the client gave in EHLO."""


class RuleReport(Record, frozen=True, kw_only=True, tag="rule-report.v1"):
    """A login that a rule in report mode would have refused. Bucket `reports`, written now and then, lapses.

    Key `<instance>.<rule>.<endpoint>.<address, encoded>`.
    """

    at: datetime
    """The last time."""
    instance: str
    rule: str
    address: str
    endpoint: Literal["public", "private"]
    username: str


class Spending(Record, frozen=True, kw_only=True, tag="spending.v1"):
    """What one ingress process has accepted, for quotas. Bucket `spending`, key `<process>.<part>`; summed by siblings.

    Keys of the counts are configurations, and users for their own limits. They are told in parts, so that little is
    said when little has changed.
    """

    process: str
    at: datetime
    hour: int
    """Hours since 1970 the hourly counts are for."""
    day: int
    """Days since 1970 the daily counts are for."""
    this_second: dict[str, float]
    """Messages per second, averaged over the last moments."""
    this_hour: dict[str, int]
    this_day: dict[str, int]
    held: dict[str, int]
    """Messages accepted to be held since the standing last changed."""


class Receipt(Record, frozen=True, kw_only=True, tag="receipt.v1"):
    """A submission that may be repeated. Bucket `receipts`, key `<digest of user and idempotency key>`; lapses."""

    queue_id: str
    at: datetime
    stored: bool = False
    """The message is durable; before that a repetition is told to come again."""
    fingerprint: str = ""
    """Digest of what a repetition must have alike."""
    lane: Lane = "transactional"
    """Where it was to be stored."""
    crowded: bool = False
    """Whether in one of the slots for crowds."""
    busy_until: datetime | None = None
    """Until then somebody may still be storing it; afterwards a repetition stores it, under the same queue ID."""


class Withdrawal(Record, frozen=True, kw_only=True, tag="withdrawal.v1"):
    """A message whose client was told 451 because nobody could say whether it was stored. Bucket `withdrawn`.

    Key `<queue ID>`; ingress writes, delivery drops what it has not tried yet, for the client sends it again.
    """

    at: datetime
    reason: str


class ApiKeyUse(Record, frozen=True, kw_only=True, tag="api-key-use.v1"):
    """When a key of the management API was last used. Bucket `access`, key `use.<id>`; written now and then."""

    at: datetime
    address: str
    client: str = ""
    """The User-Agent."""


class TransportPolicy(Record, frozen=True, kw_only=True, tag="transport-policy.v1"):
    """A destination's MTA-STS policy (RFC 8461). Bucket `policies`, key `<domain, encoded>`."""

    domain: str
    id: str
    """The `id` of its TXT record when the policy was fetched."""
    mode: Literal["enforce", "testing", "none"]
    mx: tuple[str, ...]
    fetched_at: datetime
    expires_at: datetime


class Intents(Record, frozen=True, kw_only=True, tag="intents.v1"):
    """What one delivery worker may have come past a final dot with and has not recorded. Bucket `intents`.

    Key `<worker>`. An entry tells nothing any more once the attempt it names is in the message's STATUS.
    """

    worker: str
    at: datetime
    attempts: dict[str, int]
    """`<instance>.<configuration>.<queue ID>` to the number of the attempt."""


class Pressure(Record, frozen=True, kw_only=True, tag="pressure.v1"):
    """What one delivery worker has open and has learnt. Bucket `pressure`, key `<worker>`; its siblings add it up."""

    worker: str
    at: datetime
    connections: dict[str, int]
    """Open connections per exchanger group."""
    open_breakers: dict[str, str]
    """Exchanger group to the reason its breaker opened."""
