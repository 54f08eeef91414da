"""Requests rooms answer over the bus (NATS Services), with their replies. Control asks; the mail path never does."""

from datetime import datetime

import msgspec

from shared.contract.envelope import RecipientState, RecipientStatus
from shared.contract.standing import Observation, Sighting, Standing


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Base of requests."""


class VerifyNow(Request, frozen=True, kw_only=True):
    """Ask the verifier to check a configuration's records now. Subject `postlane.verifier.verify`; reply `Verified`."""

    configuration: str


class Verified(Request, frozen=True, kw_only=True):
    """The standing after the check."""

    standing: Standing


class DescribeRecords(Request, frozen=True, kw_only=True):
    """Ask what a configuration's domain publishes. Subject `postlane.verifier.records`; reply `RecordsSeen`."""

    configuration: str
    authorities: bool = False
    """Also ask each name server of the zone, which takes longer."""


class RecordsSeen(Request, frozen=True, kw_only=True):
    """What DNS says now, what to publish instead, and what was seen before. Asking changes no standing."""

    configuration: str
    domain: str
    spf: Observation
    dkim: Observation
    dmarc: Observation
    spf_to_publish: str
    """The SPF record to publish: what the domain publishes today, with what is missing merged in."""
    spf_lookups: int
    """DNS look-ups of the published record, of the 10 allowed."""
    notes: tuple[str, ...] = ()
    """Sentences a customer should read, for example that the record is near its limit."""
    authorities: tuple[Observation, ...] = ()
    """The same names as served by each name server of the zone."""
    history: tuple[Sighting, ...] = ()
    """What was seen, newest first, one entry per change."""
    changes: tuple[str, ...] = ()
    """The history in sentences, newest first: what was lost and gained, and when."""
    return_path: Observation | None = None
    """Whether the domain can receive what comes back to its senders."""
    next_dkim: Observation | None = None
    """The key a rotation introduces, if one is under way."""
    ed25519: Observation | None = None
    """The second signing key, if there is one."""
    spare_dkim: Observation | None = None
    """Whether the second selector of a delegated domain leads into the operator's zone."""


class LookForChallenge(Request, frozen=True, kw_only=True):
    """Look whether a domain publishes a proof. Subject `postlane.verifier.challenge`; reply `ChallengeSeen`."""

    name: str
    """Where the proof is to be, for example `_postlane-challenge.example.com`."""
    value: str


class ChallengeSeen(Request, frozen=True, kw_only=True):
    """What was seen; `pass` if the value is one of the TXT records of the name."""

    observation: Observation


class DescribeMessage(Request, frozen=True, kw_only=True):
    """Ask the tracker for a message. Subject `postlane.tracker.message`; reply `MessageDescription`."""

    queue_id: str
    instances: tuple[str, ...] | None = None
    """Only if it belongs to one of these; None: any (operator)."""


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One fact in a message's life, in words and as it was published."""

    at: datetime
    what: str
    """accepted, attempted, held, released, expired, dropped or the type of an unknown event."""
    sentence: str
    event: msgspec.Raw


class MessageDescription(Request, frozen=True, kw_only=True):
    """All that is known of a message."""

    queue_id: str
    instance: str
    configuration: str
    status: RecipientStatus
    sender: str
    size: int
    message_id: str
    subject: str
    accepted_at: datetime
    updated_at: datetime
    recipients: tuple[RecipientState, ...]
    why: str
    """One sentence on why the message is where it is."""
    timeline: tuple[TimelineEntry, ...]
    next_attempt_at: datetime | None = None
    user: str = ""
    client_address: str = ""


class SearchMessages(Request, frozen=True, kw_only=True):
    """Search messages, newest first. Subject `postlane.tracker.search`; reply `MessagesFound`."""

    instances: tuple[str, ...] | None = None
    configuration: str = ""
    message_id: str = ""
    recipient: str = ""
    sender: str = ""
    status: str = ""
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    offset: int = 0
    lane: str = ""


class MessageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a search result."""

    queue_id: str
    instance: str
    configuration: str
    status: RecipientStatus
    sender: str
    recipients: tuple[str, ...]
    subject: str
    accepted_at: datetime
    updated_at: datetime


class MessagesFound(Request, frozen=True, kw_only=True):
    """Search result; `total` counts all matches."""

    messages: tuple[MessageSummary, ...]
    total: int


class DescribeRefusal(Request, frozen=True, kw_only=True):
    """Look up a refusal by its reference. Subject `postlane.tracker.refusal`; reply `RefusalDescription`."""

    reference: str
    instances: tuple[str, ...] | None = None


class RefusalDescription(Request, frozen=True, kw_only=True):
    """The refusal as it was published, and what to do."""

    sentence: str
    event: msgspec.Raw


class CountMessages(Request, frozen=True, kw_only=True):
    """Count a configuration's messages by buckets of time. Subject `postlane.tracker.count`; reply `MessageCounts`."""

    instance: str
    configuration: str
    since: datetime
    until: datetime
    bucket_seconds: int


class CountBucket(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of recipients whose state was reached in one bucket."""

    at: datetime
    submitted: int = 0
    success: int = 0
    bounced: int = 0
    deferred: int = 0


class MessageCounts(Request, frozen=True, kw_only=True):
    """Counts, oldest bucket first."""

    buckets: tuple[CountBucket, ...]


class ListBounces(Request, frozen=True, kw_only=True):
    """List a configuration's recipients that were given up. Subject `postlane.tracker.bounces`; reply `BouncesFound`.

    Newest first; `recipient` and `subject` narrow it to exactly these if they are not empty.
    """

    instance: str
    configuration: str
    since: datetime
    until: datetime
    recipient: str = ""
    subject: str = ""
    limit: int = 10
    offset: int = 0


class Bounce(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that was given up, and why."""

    queue_id: str
    address: str
    subject: str
    error: str
    """The last word on the recipient: the remote server's, or ours."""
    at: datetime
    client_address: str = ""


class BouncesFound(Request, frozen=True, kw_only=True):
    """One page of bounces; `total` counts all matches."""

    bounces: tuple[Bounce, ...]
    total: int


class ListQueue(Request, frozen=True, kw_only=True):
    """List messages on the mail path. Subject `postlane.delivery.queue.list`; reply `QueueListing`."""

    configuration: str = ""
    where: str = ""
    """ready, later, held or due; "": all."""
    limit: int = 100


class QueueEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the mail path."""

    queue_id: str
    configuration: str
    where: str


class QueueListing(Request, frozen=True, kw_only=True):
    """Messages on the mail path; `total` counts all that match."""

    entries: tuple[QueueEntry, ...]
    total: int


class QueueAction(Request, frozen=True, kw_only=True):
    """Act on one queued message. Subject `postlane.delivery.queue.act`; reply `QueueActed`."""

    queue_id: str
    action: str
    """retry, hold, release or drop."""
    by: str
    reason: str
    instances: tuple[str, ...] | None = None


class QueueActed(Request, frozen=True, kw_only=True):
    """What the action did, in a sentence, and whose message it was."""

    sentence: str
    instance: str = ""


class RemoveSuppression(Request, frozen=True, kw_only=True):
    """Take an address off a configuration's list. Subject `postlane.delivery.suppression.remove`.

    The reply is `SuppressionRemoved`.
    """

    configuration: str
    address: str
    by: str


class SuppressionRemoved(Request, frozen=True, kw_only=True):
    """Whether the address was on the list."""

    removed: bool


class AddSuppression(Request, frozen=True, kw_only=True):
    """Put an address on a configuration's list by hand. Subject `postlane.delivery.suppression.add`.

    The reply is `SuppressionAdded`.
    """

    configuration: str
    address: str
    by: str
    reason: str


class SuppressionAdded(Request, frozen=True, kw_only=True):
    """Whether the address was not on the list before."""

    added: bool


class ShapeQueue(Request, frozen=True, kw_only=True):
    """Ask where unfinished mail waits and for how long. Subject `postlane.tracker.shape`; reply `QueueShape`."""

    instances: tuple[str, ...] | None = None
    configuration: str = ""
    limit: int = 50


class ShapeRow(msgspec.Struct, frozen=True, kw_only=True):
    """The unfinished recipients of one destination."""

    destination: str
    """Domain of the recipients."""
    total: int
    by_age: tuple[int, ...]
    """How many are at most as old as each of `QueueShape.minutes`, and older than the one before; the last: older."""


class QueueShape(Request, frozen=True, kw_only=True):
    """The destinations with most unfinished recipients, and how long these have waited since they were accepted."""

    minutes: tuple[int, ...]
    rows: tuple[ShapeRow, ...]
    destinations: int
    total: int


VERIFY = "postlane.verifier.verify"
RECORDS = "postlane.verifier.records"
CHALLENGE = "postlane.verifier.challenge"
MESSAGE = "postlane.tracker.message"
SEARCH = "postlane.tracker.search"
REFUSAL = "postlane.tracker.refusal"
COUNT = "postlane.tracker.count"
BOUNCES = "postlane.tracker.bounces"
QUEUE_LIST = "postlane.delivery.queue.list"
QUEUE_ACT = "postlane.delivery.queue.act"
SHAPE = "postlane.tracker.shape"
SUPPRESSION_ADD = "postlane.delivery.suppression.add"
SUPPRESSION_REMOVE = "postlane.delivery.suppression.remove"
