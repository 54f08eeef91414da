"""From events to rows: what a batch of facts adds to what is known.

Facts may come twice, out of order and in types nobody knew when this was written. Of a message's STATUS records the
one with the highest ordinal counts; an event that cannot be read is kept in the timeline and changes nothing else.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from services.tracker.core.fact import Fact, Source, read
from services.tracker.core.rows import (
    AcceptedRow,
    Deferral,
    EventRow,
    RecipientRow,
    RefusalRow,
    Rows,
    StatusRow,
    address_key,
    clean,
)
from shared.contract import errors
from shared.contract.envelope import RecipientState
from shared.contract.events import AnyStatus, MessageAccepted, SubmissionRefused
from shared.mail.ids import QueueId, parse_queue_id, queue_id_time_ms

UNREADABLE = "unreadable"
"""Type given to what is not even a JSON object with a type."""


class _Head(msgspec.Struct):
    """What an event of any version has."""

    type: str = UNREADABLE
    at: datetime | None = None


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


def accepted_time(queue_id: str, otherwise: datetime) -> datetime:
    """Return when a message was accepted, by its queue ID."""
    parsed: QueueId | None = parse_queue_id(queue_id)
    if parsed is None:
        return otherwise
    try:
        return datetime.fromtimestamp(queue_id_time_ms(parsed) / 1000, UTC)
    except (OverflowError, ValueError):
        return otherwise


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
