"""Facts: what the streams hold, as it was stored, and the events that can be read from it."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.contract import errors, page
from shared.contract.events import AnyStatus, MessageAccepted, SubmissionRefused
from shared.mail.ids import parse_queue_id

Source = Literal["ACCEPTED", "STATUS", "REFUSALS"]
SOURCES: tuple[Source, ...] = ("ACCEPTED", "STATUS", "REFUSALS")


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream, as it was stored: a record, or a line of a page."""

    source: Source
    sequence: int
    subject: str
    stored_at: datetime
    payload: bytes


class _Named(msgspec.Struct):
    """What an acceptance of any version has."""

    queue_id: str = ""


_named = msgspec.json.Decoder(_Named)
_accepted = msgspec.json.Decoder(MessageAccepted)
_status: msgspec.json.Decoder[AnyStatus] = msgspec.json.Decoder(AnyStatus)
_refused = msgspec.json.Decoder(SubmissionRefused)


def facts(source: Source, sequence: int, subject: str, stored_at: datetime, payload: bytes) -> list[Fact]:
    """Return the facts of one record; those of a page have subjects that end in their queue IDs."""
    if source != "ACCEPTED":
        return [Fact(source=source, sequence=sequence, subject=subject, stored_at=stored_at, payload=payload)]
    return [
        Fact(
            source=source,
            sequence=sequence,
            subject=f"{subject}.{_queue_id(line) or f'unreadable-{number}'}",
            stored_at=stored_at,
            payload=line,
        )
        for number, line in enumerate(page.lines(payload))
    ]


def _queue_id(line: bytes) -> str:
    try:
        return parse_queue_id(_named.decode(line).queue_id) or ""
    except errors.UNREADABLE:
        return ""


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
