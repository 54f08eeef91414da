"""Messages as they lie in a stream, and the stream's size, as the server tells them."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
from nats.aio.msg import Msg

from shared.bus.origin import headers_of, written_into


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in a stream. One that nobody published there has no payload, which nobody can read."""

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


def of_direct_get(message: Msg, stream: str) -> Stored:
    """Read one that any server of its stream gave out, its place in the headers."""
    head = {str(name): str(value) for name, value in (message.headers or {}).items()}
    sequence, at = int(head.get("Nats-Sequence", "0")), _time(head.get("Nats-Time-Stamp", ""))
    return _stored(stream, head.get("Nats-Subject", ""), sequence, at, message.data, head)


def of_leader(message: dict[str, Any], stream: str) -> Stored:
    """Read one that the leader of its stream gave out as JSON."""
    head = headers_of(base64.b64decode(message.get("hdrs", "")).partition(b"\r\n")[2])
    payload = base64.b64decode(message.get("data", ""))
    return _stored(stream, message["subject"], message["seq"], _time(message["time"]), payload, head)


def _stored(stream: str, subject: str, sequence: int, at: datetime, payload: bytes, head: dict[str, str]) -> Stored:
    if not written_into(stream, head, subject):
        payload, head = b"", {}
    return Stored(subject=subject, sequence=sequence, at=at, payload=payload, headers=head)


def _time(text: str) -> datetime:
    """Parse RFC 3339 with nanoseconds, of which microseconds are kept."""
    whole, _, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6].ljust(6, "0") if rest else "000000"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{fraction}+00:00") if whole else datetime.fromtimestamp(0, UTC)
