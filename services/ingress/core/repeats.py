"""Whether a submission repeats an earlier one, and what follows from the earlier one's receipt.

A client that asks for idempotency names its message in the header `Idempotency-Key`. The same user repeating the same
name within the window gets the first queue ID and makes no second copy. Where a configuration wants it, Message-ID,
envelope and body together are a name too. The header is between the client and us: it does not leave.
"""

import hashlib
import re
from collections.abc import Container, Sequence
from datetime import datetime, timedelta

import msgspec

from services.ingress.core.headers import Field
from services.ingress.core.refusal import Refusal
from shared.contract.records import RepeatPolicy
from shared.contract.siblings import Receipt
from shared.mail import reply

HEADER = "idempotency-key"
_NAME = re.compile(rb"[!-~]{1,255}")
_ALIKE = frozenset({"from", "to", "cc", "subject"})
"""Fields a repetition must have alike; Date, Message-ID and trace fields may be made anew by the client."""
_BOUNDARY = re.compile(rb';\s*boundary="?([^"\s;]{1,70})', re.IGNORECASE)
BOUNDARIES = 8
"""MIME boundaries left out of the comparison: libraries invent new ones each time a message is written."""


class Claim(msgspec.Struct, frozen=True):
    """A submission that may be a repetition."""

    key: str
    """Of its receipt: a digest of whose it is and what names it."""
    fingerprint: str
    """Digest of what a repetition must have alike."""


class Submitted(msgspec.Struct, frozen=True):
    """What is looked at: whose message it is, its envelope and its content."""

    configuration: str
    user: str
    sender: str
    recipients: tuple[str, ...]
    fields: Sequence[Field]
    body: bytes


def claims(policy: RepeatPolicy, names: Container[str]) -> bool:
    """Whether a message with fields of these names is to be looked up at all: else nothing is paid for it."""
    if policy == "off":
        return False
    return HEADER in names or (policy == "content" and "message-id" in names)


def claim(submitted: Submitted) -> Claim | Refusal:
    """Name a submission for which `claims` holds."""
    named = [field.value for field in submitted.fields if field.name == HEADER]
    envelope = (submitted.sender, *sorted(submitted.recipients))
    if not named:
        message_id = next(field.value for field in submitted.fields if field.name == "message-id")
        whole = _digest(*(each.encode() for each in envelope), message_id, submitted.body)
        return Claim(_key(submitted, b"content", whole.encode()), whole)
    if len(named) > 1 or not _NAME.fullmatch(named[0]):
        return Refusal(reply.BAD_IDEMPOTENCY_KEY, "the Idempotency-Key header is not one word of visible ASCII")
    alike = [field for field in submitted.fields if field.name in _ALIKE]
    fingerprint = _digest(
        *(each.encode() for each in envelope),
        *(each for field in alike for each in (field.name.encode(), field.value)),
        _without_boundaries(submitted),
    )
    return Claim(_key(submitted, b"header", named[0]), fingerprint)


class Start(msgspec.Struct, frozen=True):
    """The first submission under this name: write its receipt, if the old one still has this revision (0: none)."""

    revision: int = 0


class Resume(msgspec.Struct, frozen=True):
    """Nobody knows what became of the first one: store it again under its own queue ID, which makes no second copy."""

    receipt: Receipt
    revision: int


class Done(msgspec.Struct, frozen=True):
    """It is durable already."""

    queue_id: str


class UnderWay(msgspec.Struct, frozen=True):
    """It is being stored at this moment."""


Verdict = Start | Resume | Done | UnderWay | Refusal


def verdict(claimed: Claim, receipt: Receipt | None, revision: int, now: datetime, window: timedelta) -> Verdict:
    """Decide what a receipt that lies there, if any, means for a submission."""
    if receipt is None or now - receipt.at >= window:
        return Start(revision if receipt is not None else 0)
    if receipt.fingerprint != claimed.fingerprint:
        return Refusal(
            reply.IDEMPOTENCY_KEY_REUSED.with_(queue_id=receipt.queue_id),
            f"the Idempotency-Key of {receipt.queue_id} came again with another envelope, From, To, Subject or body",
        )
    if receipt.stored:
        return Done(receipt.queue_id)
    if receipt.busy_until is not None and now < receipt.busy_until:
        return UnderWay()
    return Resume(receipt, revision)


def _key(submitted: Submitted, kind: bytes, name: bytes) -> str:
    return _digest(submitted.configuration.encode(), submitted.user.encode(), kind, name)


def _without_boundaries(submitted: Submitted) -> bytes:
    kind = next((field.value for field in submitted.fields if field.name == "content-type"), b"")
    if kind[:10].lower() != b"multipart/":
        return submitted.body
    body = submitted.body
    for _ in range(BOUNDARIES):
        found = _BOUNDARY.search(kind)
        if found is None:
            break
        # Only where it is a boundary: one that is a letter or a digit must not take that out of the text.
        body = body.replace(b"--" + found[1], b"--").replace(found[0], found[0].removesuffix(found[1]))
        found = _BOUNDARY.search(body)
        kind = found[0] if found else b""
    return body


def _digest(*parts: bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(b"%d:" % len(part))  # so that no part can lend octets to its neighbour
        total.update(part)
    return total.hexdigest()
