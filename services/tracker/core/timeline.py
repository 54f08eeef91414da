"""A message's life in order, each fact in words and as it was published."""

from collections.abc import Iterable

import msgspec

from services.tracker.core import reconstruction
from services.tracker.core.explain import diagnosis, moment
from services.tracker.core.fact import Fact, read
from services.tracker.core.rows import EventRow
from shared.contract.events import (
    AnyStatus,
    ExchangerTried,
    MessageAccepted,
    MessageAttempted,
    MessageDropped,
    MessageExpired,
    MessageHeld,
    MessageReleased,
    SubmissionRefused,
)
from shared.contract.requests import TimelineEntry

_ORDER = {"ACCEPTED": 0, "STATUS": 1}


def timeline(rows: Iterable[EventRow]) -> tuple[TimelineEntry, ...]:
    """Return a message's events in the order they happened: acceptance, then STATUS records as they were committed.

    An event that was published twice, because its first PubAck was lost, is told once; a reconstructed acceptance
    is told unless the published one is known.
    """
    ordered = sorted(rows, key=lambda row: (_ORDER.get(row.source, 2), row.ordinal))
    published = any(row.source == "ACCEPTED" and row.ordinal != reconstruction.ORDINAL for row in ordered)
    first: dict[bytes, EventRow] = {}
    for row in ordered:
        if published and row.source == "ACCEPTED" and row.ordinal == reconstruction.ORDINAL:
            continue  # its acceptance came after all
        first.setdefault(row.body, row)
    return tuple(_entry(row) for row in first.values())


def _entry(row: EventRow) -> TimelineEntry:
    event = read(Fact(source=row.source, sequence=row.ordinal, subject="", stored_at=row.at, payload=row.body))
    if event is None or isinstance(event, SubmissionRefused):
        sentence = f"An event of a type this version cannot read: {row.type}"
        return TimelineEntry(at=row.at, what=row.type, sentence=sentence, event=msgspec.Raw(row.body))
    sentence = _sentence(event)
    if isinstance(event, MessageAccepted) and row.ordinal == reconstruction.ORDINAL:
        sentence = _reconstructed(event)
    return TimelineEntry(at=row.at, what=_word(event), sentence=sentence, event=msgspec.Raw(row.body))


def _word(event: MessageAccepted | AnyStatus) -> str:
    return str(event.__struct_config__.tag).split(".")[1]


def _sentence(event: MessageAccepted | AnyStatus) -> str:
    match event:
        case MessageAccepted():
            return _accepted(event)
        case MessageAttempted():
            return _attempted(event)
        case MessageHeld():
            until = f" until {moment(event.until)} at the latest" if event.until else ""
            return event.explanation or f"Held{until}: {event.reason or 'sending is not allowed at present'}"
        case MessageReleased():
            return event.explanation or _because("Released to go on its way", event.reason)
        case MessageExpired():
            return event.explanation or "Expired: its lifetime ended with recipients still open"
        case MessageDropped():
            by = f" by {event.by}" if event.by else ""
            return event.explanation or _because(f"Dropped{by}", event.reason)


def _because(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what


def _accepted(event: MessageAccepted) -> str:
    count = len(event.recipients)
    recipients = "1 recipient" if count == 1 else f"{count} recipients"
    sender = f"<{event.sender}>"
    whence = f" from {event.client_address}" if event.client_address else ""
    tls = f" over {event.tls}" if event.tls else ""
    remarks = f"; remarks: {'; '.join(event.findings)}" if event.findings else ""
    return f"Accepted{whence}{tls}: {event.size} octets of {sender} for {recipients}{remarks}"


def _reconstructed(event: MessageAccepted) -> str:
    if not event.user:  # the envelope of a report names nobody who logged in
        return f"Made by Postlane: a report of {event.size} octets to {', '.join(event.recipients)}"
    return f"{_accepted(event)} (reconstructed from the stored message: its client is not known)"


def _attempted(event: MessageAttempted) -> str:
    said = event.explanation or "; ".join(
        f"{state.address} {state.status}" + (f": {diagnosis(state.last)}" if state.last else "")
        for state in event.recipients
    )
    tried = "; ".join(_tried(exchanger) for exchanger in event.exchangers)
    return f"Attempt {event.attempt}: {said}" + (f" (tried {tried})" if tried else "")


def _tried(exchanger: ExchangerTried) -> str:
    tls = f" over {exchanger.tls}" if exchanger.tls else ""
    if exchanger.policy:
        tls += f" ({exchanger.policy}: {exchanger.tls_problem or ('met' if exchanger.tls_verified else 'not met')})"
    return f"{exchanger.host} [{exchanger.address}]{tls}: {exchanger.outcome}"
