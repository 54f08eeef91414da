"""Facts, in the past tense: what was published once and never changes.

Every event carries `type` (name and version), `id` and `at`. Readers ignore fields they do not know and keep events
of types they do not know as unknown. A golden sample of every version stays in `tests/wire/` for ever.
"""

from datetime import datetime
from typing import Literal

import msgspec

from shared.contract.envelope import Envelope, RecipientState, RecipientStatus
from shared.contract.standing import StandingState


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """Base of all events; `id` is unique, `at` is when it happened (UTC)."""

    id: str
    at: datetime


class MessageAccepted(Event, frozen=True, kw_only=True, tag="message.accepted.v1"):
    """The client was answered 250 (or is about to be): the message is stored durably and ours to deliver."""

    queue_id: str
    instance: str
    configuration: str
    lane: str
    sender: str
    recipients: tuple[str, ...]
    """In the order of RCPT; recipient n is `<queue ID>.<n>`."""
    size: int
    sha256: str
    message_id: str = ""
    subject: str = ""
    header_from: str = ""
    user: str = ""
    username: str = ""
    client_address: str = ""
    client_name: str = ""
    """The name given in EHLO."""
    endpoint: str = ""
    """public or private."""
    tls: str = ""
    """Version and cipher."""
    expires_at: datetime | None = None
    findings: tuple[str, ...] = ()
    """What the content policy remarked on, one sentence each."""
    staging: str = ""
    """How the user's mail is staged, "" if it is delivered."""


def acceptance(
    envelope: Envelope,
    *,
    username: str = "",
    client_address: str = "",
    client_name: str = "",
    endpoint: str = "",
    tls: str = "",
    findings: tuple[str, ...] = (),
) -> MessageAccepted:
    """Return the acceptance an envelope stands for, and what only ingress knows: the client and the findings."""
    return MessageAccepted(
        id=envelope.queue_id,
        at=envelope.received_at,
        queue_id=envelope.queue_id,
        instance=envelope.instance,
        configuration=envelope.configuration,
        lane=envelope.lane,
        sender=envelope.sender,
        recipients=tuple([each.address for each in envelope.recipients]),
        size=envelope.size,
        sha256=envelope.sha256,
        message_id=envelope.message_id,
        subject=envelope.subject,
        header_from=envelope.header_from,
        user=envelope.user,
        username=username,
        client_address=client_address,
        client_name=client_name,
        endpoint=endpoint,
        tls=tls,
        expires_at=envelope.expires_at,
        findings=findings,
        staging=envelope.staging.mode if envelope.staging else "",
    )


class StatusEvent(Event, frozen=True, kw_only=True):
    """Base of the records of `STATUS`. Each carries the cumulative state per recipient: the last one is the truth."""

    queue_id: str
    instance: str
    configuration: str
    status: RecipientStatus
    """The message's status, derived from its recipients."""
    attempt: int
    """Attempts committed so far, this one included."""
    recipients: tuple[RecipientState, ...]
    next_attempt_at: datetime | None = None
    explanation: str = ""
    """One sentence on what happened and what comes next."""


class ExchangerTried(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One connection of an attempt, also one that failed."""

    host: str
    address: str
    recipients: tuple[int, ...]
    """Numbers of the recipients offered to it."""
    outcome: str
    """delivered, deferred or bounced; or the phase that failed."""
    code: int = 0
    enhanced: str = ""
    text: str = ""
    phase: str = ""
    tls: str = ""
    """TLS version and cipher, "" in clear."""
    tls_verified: bool = False
    policy: str = ""
    """What was demanded of the encryption, for example `MTA-STS enforce 20260101`; "": nothing (opportunistic)."""
    tls_problem: str = ""
    """Why TLS is not verified, or was not had at all; "" if it is verified."""
    dsn: bool = False
    """It was offered the sender's wishes for reports (RFC 3461), and reports itself from now on."""
    milliseconds: int = 0


class MessageAttempted(StatusEvent, frozen=True, kw_only=True, tag="message.attempted.v1"):
    """A delivery attempt was made; this record commits its outcome.

    Where one destination keeps the others waiting, what is decided comes first: without a next attempt, and with
    recipients whose state is still as it was. They follow under the next number.
    """

    exchangers: tuple[ExchangerTried, ...] = ()
    milliseconds: int = 0


class MessageHeld(StatusEvent, frozen=True, kw_only=True, tag="message.held.v1"):
    """The message waits outside the queue until sending is allowed again, or until it expires."""

    reason: str = ""
    until: datetime | None = None
    by_relay: bool = False
    """Whoever runs the relay holds it, and nobody else releases it."""


class MessageReleased(StatusEvent, frozen=True, kw_only=True, tag="message.released.v1"):
    """A held message goes on its way again."""

    reason: str = ""


class MessageExpired(StatusEvent, frozen=True, kw_only=True, tag="message.expired.v1"):
    """The lifetime ended with recipients still open; they will not be tried again."""


class MessageDropped(StatusEvent, frozen=True, kw_only=True, tag="message.dropped.v1"):
    """An operator removed the message from the queue."""

    by: str = ""
    reason: str = ""


AnyStatus = MessageAttempted | MessageHeld | MessageReleased | MessageExpired | MessageDropped


class SubmissionRefused(Event, frozen=True, kw_only=True, tag="submission.refused.v1"):
    """A submission was refused; `reference` is what the client was told to quote."""

    reference: str
    code: int
    enhanced: str
    reply: str
    """The text the client saw."""
    reason: str
    """The true reason, which the reply may withhold from strangers."""
    phase: str
    """connect, auth, mail, rcpt, data or content."""
    instance: str = ""
    configuration: str = ""
    username: str = ""
    client_address: str = ""
    client_name: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()


class StandingChanged(Event, frozen=True, kw_only=True, tag="standing.changed.v1"):
    """The standing of a configuration moved; also the suspension broadcast."""

    instance: str
    configuration: str
    domain: str
    was: StandingState | Literal["unknown"]
    now: StandingState
    reason: str
    revision: int
    """Revision of the entry in the bucket `standing`."""


class DirectoryChanged(Event, frozen=True, kw_only=True, tag="directory.changed.v1"):
    """An administrator changed something: the audit record."""

    by: str
    action: str
    key: str
    instance: str = ""
    before: msgspec.Raw = msgspec.Raw(b"null")
    after: msgspec.Raw = msgspec.Raw(b"null")


class NoticeRequested(Event, frozen=True, kw_only=True, tag="notice.requested.v1"):
    """Somebody is to be told by mail: delivery writes it from the operator's own configuration, once per `id`."""

    instance: str
    configuration: str
    """The configuration it is about."""
    recipients: tuple[str, ...]
    subject: str
    text: str


class MessageCaptured(Event, frozen=True, kw_only=True, tag="message.captured.v1"):
    """A staged message was kept to be looked at instead of being delivered."""

    queue_id: str
    instance: str
    configuration: str
    sender: str
    recipients: tuple[str, ...]
    mail: bytes
    """The octets that would have been sent."""


class ClientSeen(Event, frozen=True, kw_only=True, tag="client.seen.v1"):
    """A client logged in, or left before it did: for whoever coaches a first connection. Nobody keeps it."""

    stage: Literal["logged-in", "left"]
    client_address: str
    endpoint: Literal["public", "private"]
    instance: str = ""
    username: str = ""
    client_name: str = ""
    """The name given in EHLO."""
    tls: str = ""
    """Version and cipher, "" in clear."""
    detail: str = ""
    """Of one that left: how far it came, or what ended it."""


AnyEvent = (
    ClientSeen
    | MessageAccepted
    | MessageAttempted
    | MessageHeld
    | MessageReleased
    | MessageExpired
    | MessageDropped
    | SubmissionRefused
    | StandingChanged
    | DirectoryChanged
    | NoticeRequested
    | MessageCaptured
)
