"""The records of STATUS, made from what is known of a message and what has just happened to it."""

from datetime import datetime
from typing import Any

from services.delivery.core import step
from services.delivery.core.gate import BY_OPERATOR, Hold
from shared.contract.envelope import Diagnosis, Envelope, RecipientState
from shared.contract.events import (
    AnyStatus,
    ExchangerTried,
    MessageAttempted,
    MessageDropped,
    MessageExpired,
    MessageHeld,
    MessageReleased,
)

NEVER_TRIED = Diagnosis(code=0, enhanced="4.4.7", text="the message was never tried before it expired")


def attempted(
    envelope: Envelope,
    recipients: tuple[RecipientState, ...],
    *,
    attempt: int,
    event_id: str,
    now: datetime,
    started: datetime,
    next_at: datetime | None,
    tried: tuple[ExchangerTried, ...],
    goes_on: bool = False,
) -> MessageAttempted:
    """Return the record of an attempt; it commits the outcome. `goes_on`: for those who have one already."""
    return MessageAttempted(
        **_common(envelope, recipients, attempt, event_id, now),
        next_attempt_at=next_at,
        explanation=step.explain(recipients, next_at, goes_on=goes_on),
        exchangers=tried,
        milliseconds=round((now - started).total_seconds() * 1000),
    )


def begun(
    envelope: Envelope, state: step.Known, recipients: tuple[RecipientState, ...], *, event_id: str, now: datetime
) -> MessageAttempted:
    """Return the record of an attempt that is about to be made, for configurations that ask for at most once."""
    return MessageAttempted(
        **_common(envelope, recipients, state.attempt, event_id, now),
        explanation="An attempt has begun; if it is broken off, the message is given up rather than sent twice.",
    )


def called_off(envelope: Envelope, state: step.Known, *, event_id: str, now: datetime) -> MessageAttempted:
    """Return the record of an attempt that ended before anything was sent."""
    return MessageAttempted(
        **_common(envelope, state.recipients, state.attempt, event_id, now),
        next_attempt_at=now,
        explanation="The attempt ended before anything was sent; the next one follows at once.",
    )


def held(
    envelope: Envelope,
    state: step.Known,
    hold: Hold,
    until: datetime,
    *,
    event_id: str,
    now: datetime,
    advice: str = "",
) -> MessageHeld:
    """Return the record of a hold; `advice` says what would end it."""
    recipients = step.closed(state, "held", now)
    return MessageHeld(
        **_common(envelope, recipients, state.attempt, event_id, now),
        explanation=f"{hold.sentence} {advice}".rstrip(),
        reason=hold.reason,
        until=until,
        by_relay=hold.by_relay,
    )


def hastened(
    envelope: Envelope, state: step.Known, *, event_id: str, now: datetime, by: str, reason: str
) -> MessageAttempted:
    """Return the record of an operator's wish to have a waiting message tried at once."""
    return MessageAttempted(
        **_common(envelope, state.recipients, state.attempt, event_id, now),
        next_attempt_at=now,
        explanation=f"{by} has it tried now instead of at its time: {reason or 'no reason given'}.",
    )


def released(
    envelope: Envelope,
    state: step.Known,
    *,
    event_id: str,
    now: datetime,
    next_at: datetime,
    by: str,
    reason: str,
    why: str = "",
) -> MessageReleased:
    """Return the record of a release, by an operator (`by`, `why`) or because the gate has opened."""
    recipients = step.closed(state, "queued", now)
    because = f": {why}" if why else ""
    said = f"{by} released the message{because}" if by else "Sending is allowed again"
    return MessageReleased(
        **_common(envelope, recipients, state.attempt, event_id, now),
        next_attempt_at=next_at,
        explanation=f"{said}; the message goes on its way at {next_at:%H:%M:%S} UTC.",
        reason=f"released by {by}{because}" if by else reason,
    )


def expired(envelope: Envelope, state: step.Known, *, event_id: str, now: datetime) -> MessageExpired:
    """Return the record of a lifetime's end."""
    recipients = step.closed(state, "expired", now, NEVER_TRIED)
    return MessageExpired(
        **_common(envelope, recipients, state.attempt, event_id, now),
        explanation="The lifetime of the message is over; it will not be tried again.",
    )


def dropped(
    envelope: Envelope, state: step.Known, *, event_id: str, now: datetime, by: str, reason: str
) -> MessageDropped:
    """Return the record of a message an operator took out of the queue."""
    recipients = step.closed(state, "dropped", now)
    return MessageDropped(
        **_common(envelope, recipients, state.attempt, event_id, now),
        explanation=f"{by} dropped the message: {reason or 'no reason given'}.",
        by=by,
        reason=reason,
    )


def _common(
    envelope: Envelope, recipients: tuple[RecipientState, ...], attempt: int, event_id: str, now: datetime
) -> dict[str, Any]:
    return {
        "id": event_id,
        "at": now,
        "queue_id": envelope.queue_id,
        "instance": envelope.instance,
        "configuration": envelope.configuration,
        "status": step.status_of(recipients),
        "attempt": attempt,
        "recipients": recipients,
    }


def by_operator(event: AnyStatus | None) -> bool:
    """Return whether a record is of an operator's act on a message, not of a worker that had it."""
    held = isinstance(event, MessageHeld) and event.reason == BY_OPERATOR
    return held or isinstance(event, MessageDropped | MessageReleased)
