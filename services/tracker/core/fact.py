"""Facts: what the streams hold, as it was stored, and the events that can be read from it."""

from datetime import datetime
from typing import Literal

import msgspec

from shared.contract import errors
from shared.contract.events import AnyStatus, MessageAccepted, SubmissionRefused

Source = Literal["ACCEPTED", "STATUS", "REFUSALS"]
SOURCES: tuple[Source, ...] = ("ACCEPTED", "STATUS", "REFUSALS")


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a stream, as it was stored."""

    source: Source
    sequence: int
    subject: str
    stored_at: datetime
    payload: bytes


_accepted = msgspec.json.Decoder(MessageAccepted)
_status: msgspec.json.Decoder[AnyStatus] = msgspec.json.Decoder(AnyStatus)
_refused = msgspec.json.Decoder(SubmissionRefused)


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
