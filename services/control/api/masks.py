"""Puts the mask on what a reader is answered; managers and operators see everything."""

from typing import TypeVar

import msgspec

from services.control.caller import Caller
from services.control.core.masking import masked

T = TypeVar("T", bound=msgspec.Struct)


def shown_to(caller: Caller, answer: T) -> T:
    """Return an answer as the caller may see it."""
    if caller.role != "reader":
        return answer
    return msgspec.json.decode(event_shown_to(caller, msgspec.json.encode(answer)), type=type(answer))


def event_shown_to(caller: Caller, event: bytes) -> bytes:
    """Return a JSON record as the caller may see it."""
    if caller.role != "reader":
        return event
    return msgspec.json.encode(masked(msgspec.json.decode(event)))
