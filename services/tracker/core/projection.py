"""From events to rows: what a batch of facts adds to what is known.

Facts may come twice, out of order and in types nobody knew when this was written. Of a message's STATUS records the
one with the highest ordinal counts; an event that cannot be read is kept in the timeline and changes nothing else.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

from shared.contract import errors
from shared.contract.envelope import Diagnosis, RecipientState
from shared.contract.events import AnyStatus, MessageAccepted, SubmissionRefused
from shared.mail.address import Fault, normalise_domain
from shared.mail.ids import QueueId, parse_queue_id, queue_id_time_ms

Source = Literal["ACCEPTED", "STATUS", "REFUSALS"]
SOURCES: tuple[Source, ...] = ("ACCEPTED", "STATUS", "REFUSALS")

UNREADABLE = "unreadable"
"""Type given to what is not even a JSON object with a type."""


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a stream, as it was stored."""

    source: Source
    sequence: int
    subject: str
    stored_at: datetime
    payload: bytes


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event kept for the timeline; `queue_id` is "" for a refusal."""

    queue_id: str
    source: Source
    ordinal: int
    at: datetime
    type: str
    body: bytes
    """A JSON document."""


class AcceptedRow(msgspec.Struct, frozen=True, kw_only=True):
    """What acceptance tells of a message."""

    queue_id: str
    instance: str
    configuration: str
    lane: str
    sender: str
    sender_key: str
    sender_domain: str
    size: int
    sha256: str
    message_id: str
    subject: str
    header_from: str
    user: str
    username: str
    client_address: str
    client_name: str
    endpoint: str
    tls: str
    accepted_at: datetime
    expires_at: datetime | None


class StatusRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the newest STATUS record tells of a message."""

    queue_id: str
    instance: str
    configuration: str
    accepted_at: datetime
    """From the queue ID: for a message whose ACCEPTED event has not come yet."""
    status: str
    status_ordinal: int
    status_type: str
    attempt: int
    updated_at: datetime
    next_attempt_at: datetime | None
    explanation: str
    reason: str
    """Why it is held, released or dropped."""
    by: str


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where one recipient is."""

    queue_id: str
    number: int
    instance: str
    configuration: str
    accepted_at: datetime
    address: str
    address_key: str
    address_domain: str
    status: str
    status_ordinal: int
    attempts: int
    at: datetime
    last: bytes
    """The last diagnosis as JSON, b"null" if there is none."""
    possible_duplicate: bool


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient was deferred at this time at the latest."""

    queue_id: str
    number: int
    at: datetime


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A refused submission."""

    reference: str
    ordinal: int
    at: datetime
    instance: str
    configuration: str
    code: int
    body: bytes


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch adds, each list in the order of its key, so that writers cannot lock each other out."""

    events: list[EventRow]
    accepted: list[AcceptedRow]
    statuses: list[StatusRow]
    accepted_recipients: list[RecipientRow]
    status_recipients: list[RecipientRow]
    deferrals: list[Deferral]
    refusals: list[RefusalRow]


class _Head(msgspec.Struct):
    """What an event of any version has."""

    type: str = UNREADABLE
    at: datetime | None = None


_accepted = msgspec.json.Decoder(MessageAccepted)
_status: msgspec.json.Decoder[AnyStatus] = msgspec.json.Decoder(AnyStatus)
_refused = msgspec.json.Decoder(SubmissionRefused)
_head = msgspec.json.Decoder(_Head)
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder().encode


def project(facts: Iterable[Fact], bases: dict[Source, int]) -> Rows:
    """Return what a batch adds; an ordinal is a fact's sequence plus the base of its source."""
    events: dict[tuple[str, str, int], EventRow] = {}
    accepted: dict[str, MessageAccepted] = {}
    newest: dict[str, tuple[int, AnyStatus]] = {}
    deferrals: dict[tuple[str, int], datetime] = {}
    refusals: dict[str, RefusalRow] = {}
    for fact in facts:
        ordinal = bases[fact.source] + fact.sequence
        event = read(fact)
        match event:
            case MessageAccepted():
                accepted[event.queue_id] = event
            case SubmissionRefused():
                refusals[event.reference] = _refusal_row(event, ordinal, fact.payload)
                continue  # it has no timeline
            case None:
                pass
            case _:
                known = newest.get(event.queue_id)
                if known is None or known[0] < ordinal:
                    newest[event.queue_id] = (ordinal, event)
                for key, at in _deferred(event):
                    deferrals[key] = min(at, deferrals.get(key, at))
        row = _event_row(fact, ordinal, event)
        events[row.queue_id, row.source, row.ordinal] = row
    return Rows(
        events=[events[key] for key in sorted(events)],
        accepted=[_accepted_row(accepted[key]) for key in sorted(accepted)],
        statuses=[_status_row(*newest[key]) for key in sorted(newest)],
        accepted_recipients=[row for key in sorted(accepted) for row in _accepted_recipients(accepted[key])],
        status_recipients=[row for key in sorted(newest) for row in _status_recipients(*newest[key])],
        deferrals=[Deferral(queue_id=q, number=n, at=deferrals[q, n]) for q, n in sorted(deferrals)],
        refusals=[refusals[key] for key in sorted(refusals)],
    )


def read(fact: Fact) -> MessageAccepted | AnyStatus | SubmissionRefused | None:
    """Return a fact's event, or None if no version known here can read it."""
    try:
        match fact.source:
            case "ACCEPTED":
                return _accepted.decode(fact.payload)
            case "STATUS":
                return _status.decode(fact.payload)
            case "REFUSALS":
                return _refused.decode(fact.payload)
    except errors.UNREADABLE:
        return None


def address_key(address: str) -> tuple[str, str]:
    """Return an address as it is searched for, and its domain: lower case, the domain in A-labels."""
    local, at, domain = address.rpartition("@")
    normal = normalise_domain(domain)
    comparable = domain.lower() if isinstance(normal, Fault) else normal
    return (f"{local.lower()}{at}{comparable}", comparable) if at else (address.lower(), "")


def accepted_time(queue_id: str, otherwise: datetime) -> datetime:
    """Return when a message was accepted, by its queue ID."""
    parsed: QueueId | None = parse_queue_id(queue_id)
    if parsed is None:
        return otherwise
    try:
        return datetime.fromtimestamp(queue_id_time_ms(parsed) / 1000, UTC)
    except (OverflowError, ValueError):
        return otherwise


def clean(text: str) -> str:
    """Replace NUL, which one of the databases cannot keep in a text."""
    return text.replace("\x00", "\ufffd")


def _event_row(fact: Fact, ordinal: int, event: MessageAccepted | AnyStatus | SubmissionRefused | None) -> EventRow:
    if event is not None and not isinstance(event, SubmissionRefused):
        queue_id, at = event.queue_id, event.at
        kind = str(event.__struct_config__.tag)
        body = fact.payload
    else:
        queue_id = fact.subject.rsplit(".", 1)[-1] if fact.source != "REFUSALS" else ""
        try:
            head = _head.decode(fact.payload)
            kind, at, body = clean(head.type), head.at or fact.stored_at, fact.payload
        except errors.UNREADABLE:
            kind, at, body = UNREADABLE, fact.stored_at, _as_json(fact.payload)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
    return EventRow(queue_id=queue_id, source=fact.source, ordinal=ordinal, at=at, type=kind, body=body)


def _as_json(payload: bytes) -> bytes:
    """Return the payload if it is JSON, else its text as a JSON string."""
    try:
        _any.decode(payload)
    except errors.UNREADABLE:
        return _encode(payload.decode("utf-8", "replace"))
    return payload


def _accepted_row(event: MessageAccepted) -> AcceptedRow:
    key, domain = address_key(event.sender)
    return AcceptedRow(
        queue_id=event.queue_id,
        instance=event.instance,
        configuration=event.configuration,
        lane=clean(event.lane),
        sender=clean(event.sender),
        sender_key=clean(key),
        sender_domain=clean(domain),
        size=event.size,
        sha256=clean(event.sha256),
        message_id=clean(event.message_id),
        subject=clean(event.subject),
        header_from=clean(event.header_from),
        user=clean(event.user),
        username=clean(event.username),
        client_address=clean(event.client_address),
        client_name=clean(event.client_name),
        endpoint=clean(event.endpoint),
        tls=clean(event.tls),
        accepted_at=event.at,
        expires_at=event.expires_at,
    )


def _status_row(ordinal: int, event: AnyStatus) -> StatusRow:
    return StatusRow(
        queue_id=event.queue_id,
        instance=event.instance,
        configuration=event.configuration,
        accepted_at=accepted_time(event.queue_id, event.at),
        status=event.status,
        status_ordinal=ordinal,
        status_type=str(event.__struct_config__.tag),
        attempt=event.attempt,
        updated_at=event.at,
        next_attempt_at=event.next_attempt_at,
        explanation=clean(event.explanation),
        reason=clean(getattr(event, "reason", "")),
        by=clean(getattr(event, "by", "")),
    )


def _accepted_recipients(event: MessageAccepted) -> Iterable[RecipientRow]:
    for number, address in enumerate(event.recipients, 1):
        state = RecipientState(number=number, address=address, status="queued", at=event.at)
        yield _recipient_row(event, 0, event.at, state)


def _status_recipients(ordinal: int, event: AnyStatus) -> Iterable[RecipientRow]:
    for state in sorted(event.recipients, key=lambda r: r.number):
        yield _recipient_row(event, ordinal, accepted_time(event.queue_id, event.at), state)


def _recipient_row(
    event: MessageAccepted | AnyStatus, ordinal: int, accepted_at: datetime, state: RecipientState
) -> RecipientRow:
    key, domain = address_key(state.address)
    return RecipientRow(
        queue_id=event.queue_id,
        number=state.number,
        instance=event.instance,
        configuration=event.configuration,
        accepted_at=accepted_at,
        address=clean(state.address),
        address_key=clean(key),
        address_domain=clean(domain),
        status=state.status,
        status_ordinal=ordinal,
        attempts=state.attempts,
        at=state.at or event.at,
        last=_encode(state.last),
        possible_duplicate=state.possible_duplicate,
    )


def _deferred(event: AnyStatus) -> Iterable[tuple[tuple[str, int], datetime]]:
    for state in event.recipients:
        if state.status == "deferred":
            yield (event.queue_id, state.number), state.at or event.at


def _refusal_row(event: SubmissionRefused, ordinal: int, payload: bytes) -> RefusalRow:
    return RefusalRow(
        reference=clean(event.reference),
        ordinal=ordinal,
        at=event.at,
        instance=clean(event.instance),
        configuration=clean(event.configuration),
        code=event.code,
        body=payload,
    )


def recipient_state(row: RecipientRow) -> RecipientState:
    """Return a recipient's row in the words of the contract."""
    return RecipientState(
        number=row.number,
        address=row.address,
        status=row.status,  # type: ignore[arg-type]  # it was read from such a state
        attempts=row.attempts,
        at=row.at,
        last=msgspec.json.decode(row.last, type=Diagnosis | None),
        possible_duplicate=row.possible_duplicate,
    )
