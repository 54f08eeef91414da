"""Messages as they lie in a stream, and the stream's size, as the server tells them."""

import base64
import email.parser
from datetime import UTC, datetime
from typing import Any

import msgspec
from nats.aio.msg import Msg


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in a stream."""

    subject: str
    sequence: int
    at: datetime
    payload: bytes
    headers: dict[str, str]


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Size of a stream; `subjects` counts messages per subject if a filter was given."""

    messages: int
    bytes: int
    first_sequence: int
    last_sequence: int
    subjects: dict[str, int]
    max_bytes: int
    config: dict[str, Any]  # as the server tells it
    created: str
    """When this stream was made, as the server writes it: another value is another life, with sequences from 1."""


def of_direct_get(message: Msg) -> Stored:
    """Read one that any server of its stream gave out, its place in the headers."""
    head = {str(name): str(value) for name, value in (message.headers or {}).items()}
    return Stored(
        subject=head.get("Nats-Subject", ""),
        sequence=int(head.get("Nats-Sequence", "0")),
        at=_time(head.get("Nats-Time-Stamp", "")),
        payload=message.data,
        headers=head,
    )


def of_leader(message: dict[str, Any]) -> Stored:
    """Read one that the leader of its stream gave out as JSON."""
    head = email.parser.BytesHeaderParser().parsebytes(base64.b64decode(message.get("hdrs", "")).partition(b"\r\n")[2])
    return Stored(
        subject=message["subject"],
        sequence=message["seq"],
        at=_time(message["time"]),
        payload=base64.b64decode(message.get("data", "")),
        headers=dict(head.items()),
    )


def _time(text: str) -> datetime:
    """Parse RFC 3339 with nanoseconds, of which microseconds are kept."""
    whole, _, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6].ljust(6, "0") if rest else "000000"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{fraction}+00:00") if whole else datetime.fromtimestamp(0, UTC)
