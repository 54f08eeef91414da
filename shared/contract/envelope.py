"""A message as it lies on the bus: its carriage (envelope and progress) in one JSON line, then the octets of the mail.

The octets after the first LF are exactly the bytes that were accepted, will be signed and are sent.
"""

from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from shared.contract.errors import UNREADABLE
from shared.contract.records import Lane, StagingMode

RecipientStatus = Literal[
    "queued", "held", "deferred", "delivered", "bounced", "expired", "suppressed", "dropped", "captured"
]
FINAL: frozenset[str] = frozenset({"delivered", "bounced", "expired", "suppressed", "dropped", "captured"})
"""A recipient in one of these states is never attempted again."""

HELD_BY_OPERATOR = "held-by-operator"
"""Reason of a hold that only an operator's release ends."""


class Undecodable(ValueError):
    """A message on the mail path that no version of the contract can read; it goes to quarantine."""


class LaterVersion(Undecodable):
    """A whole message whose envelope says what this version does not know: a later one may read it."""


class Recipient(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One RCPT of an envelope; its identifier is `<queue ID>.<number>`."""

    number: int
    """Counted from 1 in the order of RCPT."""
    address: str
    """Exactly as the client wrote it."""
    notify: str = ""
    """RFC 3461 NOTIFY value, "" if none was given."""
    orcpt: str = ""


class Staging(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of the mail of a user who tests: see `User.staging`."""

    mode: StagingMode
    redirect_to: str = ""
    allowed: tuple[str, ...] = ()


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="envelope.v1", tag_field="type"):
    """What ingress knows of an accepted message; it never changes afterwards."""

    queue_id: str
    instance: str
    configuration: str
    domain: str
    """The configuration's sender domain, lower-case A-labels; DKIM signs with d= this domain."""
    lane: Lane
    sender: str
    """MAIL FROM as written; "" is the null sender."""
    recipients: tuple[Recipient, ...]
    received_at: datetime
    expires_at: datetime | None
    """When delivery gives up; None: received_at plus the lifetime setting of delivery."""
    size: int
    """Octets of the mail."""
    sha256: str
    """Hash of the octets of the mail, lower-case hex."""
    message_id: str = ""
    subject: str = ""
    user: str = ""
    """The user ID that authenticated; "" for reports made by Postlane itself."""
    header_from: str = ""
    eight_bit: bool = False
    """The content has octets above 127 (BODY=8BITMIME)."""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    staging: Staging | None = None


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last word on a recipient: the remote server's, or ours when no server was reached."""

    code: int
    """SMTP code; 0 if no reply was received."""
    enhanced: str
    """RFC 3463 status, for example 4.4.1."""
    text: str
    phase: str = ""
    """Where it happened: route, connect, greeting, ehlo, starttls, mail, rcpt, data, final, policy."""
    host: str = ""
    address: str = ""


class RecipientState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where one recipient of a message is."""

    number: int
    address: str
    status: RecipientStatus
    attempts: int = 0
    at: datetime | None = None
    """When this status was reached."""
    last: Diagnosis | None = None
    possible_duplicate: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far delivery has come, as of the commit that put the message where it lies."""

    attempt: int = 0
    """Attempts committed so far."""
    recipients: tuple[RecipientState, ...] = ()
    """Empty: nothing committed yet, every recipient is queued."""
    due_at: datetime | None = None
    """When the scheduled successor falls due."""
    committed: int = 0
    """Sequence of the STATUS record this copy rests on, 0 for none; a later record means the copy is outdated."""
    hold: str = ""
    """Why this copy is held (a word of delivery's gate); "" once it is released."""


_NO_PROGRESS = Progress()


class Carriage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a message on the bus."""

    envelope: Envelope
    progress: Progress = _NO_PROGRESS
    written: msgspec.Raw = msgspec.Raw()
    """The envelope as its writer encoded it, with what a later version put there; not a part of the line by itself."""


class _Line(msgspec.Struct, frozen=True):
    envelope: msgspec.Raw
    progress: Progress = _NO_PROGRESS


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)
_envelope_decoder = msgspec.json.Decoder(Envelope)


def pack(carriage: Carriage, mail: bytes) -> bytes:
    """Return the payload of a message: one line of JSON, LF, the octets of the mail.

    An envelope that was read is written as it was: whoever passes a message on may be older than who wrote it.
    """
    envelope = bytes(carriage.written) or _encoder.encode(carriage.envelope)
    fresh = carriage.progress == _NO_PROGRESS
    progress = b"" if fresh else b',"progress":%b' % _encoder.encode(carriage.progress)
    return b'{"envelope":%b%b}\n%b' % (envelope, progress, mail)


def unpack(payload: bytes) -> tuple[Carriage, bytes]:
    """Split a payload into carriage and mail.

    Errors: `Undecodable` says why the payload cannot be one of ours.
    """
    line, separator, mail = payload.partition(b"\n")
    if not separator:
        raise Undecodable("the payload has no line with an envelope")
    try:
        read = _line_decoder.decode(line)
        envelope = _envelope_decoder.decode(read.envelope)
    except UNREADABLE as fault:
        kind = LaterVersion if _intact(line, mail) else Undecodable
        raise kind(f"the envelope cannot be read: {fault}") from fault
    if envelope.size != len(mail):
        raise Undecodable(f"the envelope says {envelope.size} octets, the mail has {len(mail)}")
    # A copy: a part of the payload would keep the whole of it in memory.
    return Carriage(envelope=envelope, progress=read.progress, written=msgspec.Raw(bytes(read.envelope))), mail


class _Intact(msgspec.Struct, frozen=True):
    """What an envelope of every version has."""

    type: str
    size: int
    sha256: str


class _IntactLine(msgspec.Struct, frozen=True):
    envelope: _Intact


_intact_decoder = msgspec.json.Decoder(_IntactLine)


def _intact(line: bytes, mail: bytes) -> bool:
    """Whether a message that cannot be read is whole all the same."""
    try:
        envelope = _intact_decoder.decode(line).envelope
    except UNREADABLE:
        return False
    return (
        envelope.type.startswith("envelope.v")
        and envelope.size == len(mail)
        and envelope.sha256 == sha256(mail).hexdigest()
    )


def overall(recipients: tuple[RecipientState, ...]) -> RecipientStatus:
    """Derive a message's status from its recipients: open states first, then the worst final one."""
    present = {r.status for r in recipients}
    order: tuple[RecipientStatus, ...] = (
        "held", "deferred", "queued", "bounced", "expired", "dropped", "suppressed", "captured", "delivered",
    )  # fmt: skip
    return next((status for status in order if status in present), "queued")
