"""Is this message fit to be signed and sent? Strict checks, then the repairs a submission server owes (RFC 6409 §8).

The octets that come out are the octets that are stored, signed and sent.
"""

import re
from datetime import datetime
from email.utils import format_datetime

import msgspec

from services.ingress.core import deadline, repeats
from services.ingress.core.attachment import Attachment, find_attachment
from services.ingress.core.headers import Field, parse_fields, split_header
from services.ingress.core.mailbox import parse_mailbox
from services.ingress.core.mime import MimeLimits, find_ambiguity, without_comments
from services.ingress.core.received import Trace, is_own, received_field
from services.ingress.core.refusal import Refusal
from services.ingress.core.transparency import LINE_LIMIT
from shared.mail import reply
from shared.mail.address import Address, Fault
from shared.mail.reply import Reply

ONCE = frozenset(  # RFC 5322 §3.6, and those whose doubling deceives readers of mail
    {
        "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references", "subject", "date",
        "mime-version", "content-type", "content-transfer-encoding", "content-disposition", "content-id",
        "list-unsubscribe", "list-unsubscribe-post", deadline.HEADER,
    }
)  # fmt: skip
REMOVED = frozenset({"bcc", "resent-bcc", "return-path", repeats.HEADER, deadline.HEADER})
OWED = ("date", "message-id")
"""What a submission server adds; an empty one is none."""
IN_DOMAIN = ("sender", "resent-from", "resent-sender")
TEXT_LIMIT = 998
"""Characters of subject and Message-ID that are remembered."""
_AUTHSERV_ID = re.compile(rb'[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^ \t;"]*))')


class ContentLimits(msgspec.Struct, frozen=True):
    """Bounds of a message's header and MIME structure."""

    header_bytes: int = 262_144
    header_lines: int = 5_000
    hops: int = 50
    own_hops: int = 2
    mime: MimeLimits = MimeLimits()


class Parsed(msgspec.Struct, frozen=True):
    """A message whose form is sound and whose author is known."""

    fields: list[Field]
    named: dict[str, Field]
    """The first field of each name."""
    body: bytes
    author: Address


class Accepted(msgspec.Struct, frozen=True):
    """A message as it will be stored."""

    octets: bytes
    header_from: str
    message_id: str
    subject: str
    eight_bit: bool


def parse(message: bytes, limits: ContentLimits, host: str) -> Parsed | Refusal:
    """Check the form of a message: line ends, line lengths, header, one From, hops. Judges no domain."""
    form = _form(message)
    if form is not None:
        return form
    head = split_header(message, limits.header_bytes)
    if isinstance(head, Fault):
        return _bad(head.reason)
    block, start = head
    fields = parse_fields(block, limits.header_lines)
    if isinstance(fields, Fault):
        return _bad(fields.reason)
    named: dict[str, Field] = {}
    for field in fields:
        if named.setdefault(field.name, field) is not field and field.name in ONCE:
            if field.name == "from":
                return _no_author("the message has two From headers")
            return _bad(f"the header {field.name} appears twice")
    if "received" in named:
        hops = [field.raw for field in fields if field.name == "received"]
        if len(hops) > limits.hops or sum(is_own(hop, host) for hop in hops) >= limits.own_hops:
            return Refusal(reply.LOOP_DETECTED, f"the message has {len(hops)} Received headers")
    expire_after = deadline.expire_after(named)
    if isinstance(expire_after, Fault):
        return _bad(expire_after.reason)
    if "from" not in named:
        return _no_author("the message has no From header")
    author = parse_mailbox(named["from"].text)
    if isinstance(author, Fault):
        return _no_author(author.reason)
    return Parsed(fields, named, message[start:], author)


def check(
    parsed: Parsed, domain: str, attachments_allowed: bool, smtputf8: bool, limits: ContentLimits
) -> Refusal | None:
    """Check a sound message against the configuration it is sent for."""
    if parsed.author.domain != domain:
        return _foreign(reply.HEADER_FROM_NOT_ALLOWED, parsed.author.domain, "From", domain)
    if not parsed.author.is_ascii and not smtputf8:
        return Refusal(reply.NEEDS_SMTPUTF8, "the From address is not ASCII and SMTPUTF8 was not asked for")
    for field in parsed.fields:
        if field.name in IN_DOMAIN:
            other = parse_mailbox(field.text)
            if isinstance(other, Fault):
                return _bad(f"the header {field.name} cannot be used: {other.reason}")
            if other.domain != domain:
                return _foreign(reply.HEADER_SENDER_NOT_ALLOWED, other.domain, field.name, domain)
    look = find_ambiguity if attachments_allowed else find_attachment
    found = look(parsed.fields, parsed.body, limits.mime)
    if isinstance(found, Attachment):
        return Refusal(reply.ATTACHMENT_REFUSED.with_(part=found.part), f"attachment: {found.part}")
    if isinstance(found, Fault):
        return _bad(found.reason)
    return None


def finish(parsed: Parsed, domain: str, trace: Trace, queue_id: str, at: datetime, smtputf8: bool) -> Accepted:
    """Build the octets to store: trace field on top, what is missing added, what must not leave removed."""
    named = parsed.named
    owed = [name for name in OWED if name not in named or not named[name].value]
    pieces = [received_field(trace, queue_id, at, smtputf8)]
    if "date" in owed:  # RFC 6409 §8.2
        pieces.append(f"Date: {format_datetime(at)}\r\n".encode())
    message_id = "" if "message-id" in owed else _text(named["message-id"])
    if "message-id" in owed:  # RFC 6409 §8.3
        message_id = f"<{queue_id}@{domain}>"
        pieces.append(f"Message-ID: {message_id}\r\n".encode())
    for field in parsed.fields:
        if field.name in REMOVED or field.name in owed:
            continue
        if field.name == "authentication-results" and _speaks_as(trace.host, field.value):
            continue  # RFC 8601 §5: nobody else speaks in our name
        pieces.append(field.raw)
    pieces += [b"\r\n", parsed.body]
    octets = b"".join(pieces)
    subject = _text(named["subject"]) if "subject" in named else ""
    return Accepted(octets, parsed.author.written, message_id, subject, not octets.isascii())


def _form(message: bytes) -> Refusal | None:
    rest = message.replace(b"\r\n", b"")  # whatever comes together by it, a CR or LF that is left was a bare one
    if b"\r" in rest or b"\n" in rest:
        return Refusal(reply.STRAY_LINE_END, "the message has a bare CR or LF")  # RFC 5321 §2.3.8
    if b"\0" in rest:
        return _bad("it contains a NUL octet")
    start = 0
    while len(message) - start > LINE_LIMIT:
        end = message.rfind(b"\n", start, start + LINE_LIMIT + 2)
        if end < 0:
            return Refusal(reply.LINE_IN_MESSAGE_TOO_LONG, f"a line is longer than {LINE_LIMIT} octets")
        start = end + 1
    return None


def _speaks_as(host: str, results: bytes) -> bool:
    """Whether Authentication-Results are said in the name of a host (RFC 8601 §2.2); if in doubt, they are."""
    value = without_comments(results)
    found = _AUTHSERV_ID.match(value) if value is not None else None
    if found is None:
        return True
    name = found[2] if found[1] is None else re.sub(rb"\\(.)", rb"\1", found[1])
    return name.lower() == host.lower().encode()


def _bad(fault: str) -> Refusal:
    return Refusal(reply.BAD_CONTENT.with_(fault=fault), fault)


def _no_author(fault: str) -> Refusal:
    return Refusal(reply.HEADER_FROM_MISSING.with_(fault=fault), fault)


def _foreign(text: Reply, found: str, header: str, domain: str) -> Refusal:
    return Refusal(text.with_(domain=found, header=header), f"the {header} domain {found} is not {domain}")


def _text(field: Field) -> str:
    return field.text[:TEXT_LIMIT]
