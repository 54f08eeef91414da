"""Rows: what the database keeps of events, and the form in which their texts are kept and searched for."""

from datetime import datetime

import msgspec

from services.tracker.core.fact import Source
from shared.contract.envelope import Diagnosis, RecipientState
from shared.mail.address import Fault, normalise_domain


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


def address_key(address: str) -> tuple[str, str]:
    """Return an address as it is searched for, and its domain: lower case, the domain in A-labels."""
    local, at, domain = address.rpartition("@")
    normal = normalise_domain(domain)
    comparable = domain.lower() if isinstance(normal, Fault) else normal
    return (f"{local.lower()}{at}{comparable}", comparable) if at else (address.lower(), "")


def clean(text: str) -> str:
    """Replace NUL, which one of the databases cannot keep in a text."""
    return text.replace("\x00", "\ufffd")


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
