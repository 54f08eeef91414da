"""Delivery status notifications (RFC 3464, RFC 6522): to whom, and the message.

A report goes to the configuration's reply-to address, or to the envelope sender if that is in the configuration's own
domain; never to anybody else (no backscatter), and never about a message from the null sender (RFC 5321 §6.1).
"""

import re
from binascii import b2a_qp
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Literal

import msgspec

from services.delivery.core.lines import in_ascii
from services.delivery.core.wording import kind_of
from shared.contract.envelope import Diagnosis, Envelope, Recipient, RecipientState
from shared.contract.records import Configuration
from shared.mail.address import Fault, parse_address
from shared.mail.ids import RANDOM_BYTES, QueueId, new_queue_id, queue_id_time_ms
from shared.mail.words import readable

ORIGINAL_HEADER_LIMIT = 16_384
"""Octets of the original header that are returned; the body never is."""
_XTEXT_SAFE = re.compile(r"[!-*,-<>-~]")
_XTEXT_OCTET = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[^\x20-\x7e]")

ADVICE = {
    "mailbox": "The mailbox does not exist. Check the spelling of the address and remove it from your lists.",
    "full": "The mailbox is full. The recipient must make room before mail can be delivered.",
    "size": "The message is too large for the recipient's server. Send less, or a link to the content.",
    "content": "The recipient's server did not accept the content. Check text, links and formatting.",
    "policy": "The recipient's server refuses this mail by policy. Ask its administrator what must change.",
    "reputation": "The recipient's server mistrusts the sending address. Tell the operator of this service.",
    "routing": "The recipient's domain does not accept mail. Check the spelling of the domain.",
    "infrastructure": "The recipient's server had a fault. Sending again later may help.",
    "other": "The recipient's server refused the message. Its answer below may say more.",
}
EXPIRED_ADVICE = (
    "The message could not be delivered in time and will not be tried again. Send it again if it still matters."
)


Action = Literal["failed", "delayed", "relayed"]
SUBJECTS: dict[Action, str] = {
    "failed": "Undeliverable mail: delivery has failed",
    "delayed": "Delayed mail: delivery is still being tried",
    "relayed": "Relayed mail: accepted by the recipient's server",
}
OPENINGS: dict[Action, tuple[str, ...]] = {
    "failed": ("Your message could not be delivered to the recipients below.",),
    "delayed": ("Your message has not been delivered yet to the recipients below.", "This is only a warning."),
    "relayed": ("Your message was passed on for the recipients below, as you asked to be told.",),
}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report to be sent as a new message."""

    envelope: Envelope
    mail: bytes


def target(envelope: Envelope, configuration: Configuration | None) -> str:
    """Return the address a report about this message goes to, or "" if there must be none."""
    if envelope.sender == "" or configuration is None:
        return ""
    if configuration.reply_to:
        address = parse_address(configuration.reply_to)
        if isinstance(address, Fault):
            return ""
        # An address elsewhere must be confirmed first: reports sent to strangers would be abuse.
        if configuration.reply_to_confirmed_at is not None or address.domain == configuration.domain:
            return configuration.reply_to
    sender = parse_address(envelope.sender)
    if isinstance(sender, Fault) or sender.domain != configuration.domain:
        return ""
    return envelope.sender


def queue_id_of(reported: str, attempt: int, what: Action | Literal["expired"] = "failed") -> QueueId:
    """Return the queue ID of the report on an attempt: always the same, so that a repeat is seen to be one.

    The end of a lifetime is told apart: no attempt comes between it and the last one, which may have been reported on.
    """
    named = f"report {reported} {attempt}" if what == "failed" else f"report {reported} {attempt} {what}"
    chance = sha256(named.encode()).digest()[:RANDOM_BYTES]
    return new_queue_id(queue_id_time_ms(QueueId(reported)) + attempt, chance)


def report(
    envelope: Envelope,
    failed: tuple[RecipientState, ...],
    *,
    attempt: int,
    to: str,
    original: bytes,
    reporting_mta: str,
    now: datetime,
    action: Action = "failed",
    until: datetime | None = None,
    full_bytes: int = 0,
) -> Report:
    """Build the report on `failed`, recipients of `envelope`, whose mail was `original`.

    `until`: when delivery gives up, for a delay. The whole mail is returned if the sender asked for that and it has no
    more than `full_bytes` octets, else its header.
    """
    expired = action == "failed" and all(r.status == "expired" for r in failed)
    queue_id = queue_id_of(envelope.queue_id, attempt, "expired" if expired else action)
    boundary = f"=_{queue_id}"
    mime = boundary.encode()
    utf8 = not to.isascii() or any(not r.address.isascii() for r in failed)
    # RFC 3461 §4.3: RET speaks of failures only.
    whole = action == "failed" and envelope.ret.upper() == "FULL" and len(original) <= full_bytes
    parts = (
        _text(_crlf(_words(envelope, failed, action, until))),
        b"Content-Type: message/delivery-status\r\n\r\n"
        + _crlf(_fields(envelope, failed, reporting_mta, action, until)),
        _whole(original, envelope.smtputf8) if whole else _header_only(original, envelope.smtputf8),
    )
    body = b"".join(b"--" + mime + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + mime + b"--\r\n"
    encoding = _encoding(body).decode()
    mail = _header(envelope, queue_id, boundary, to, reporting_mta, now, action, encoding) + b"\r\n" + body
    made = Envelope(
        queue_id=queue_id,
        instance=envelope.instance,
        configuration=envelope.configuration,
        domain=envelope.domain,
        lane=envelope.lane,
        sender="",  # RFC 3464 §2: the null return path
        recipients=(Recipient(number=1, address=to, notify="NEVER"),),
        received_at=now,
        expires_at=None,
        size=len(mail),
        sha256=sha256(mail).hexdigest(),
        message_id=f"<{queue_id}@{reporting_mta}>",
        subject=SUBJECTS[action],
        header_from=_from(envelope),
        eight_bit=any(octet > 127 for octet in mail),
        smtputf8=utf8 and not to.isascii(),
    )
    return Report(envelope=made, mail=mail)


def _from(envelope: Envelope) -> str:
    # The signing key is the configuration's: From is in its domain so that DMARC aligns.
    return f"MAILER-DAEMON@{envelope.domain}"


def _header(
    envelope: Envelope,
    queue_id: str,
    boundary: str,
    to: str,
    reporting_mta: str,
    now: datetime,
    action: Action,
    encoding: str,
) -> bytes:
    lines = [
        f"From: Mail Delivery System <{_from(envelope)}>",
        f"To: {to}",
        f"Subject: {SUBJECTS[action]}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: <{queue_id}@{reporting_mta}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 §5: nobody answers this automatically
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",  # RFC 2045 §6.4: a part may not need more than the whole
    ]
    if envelope.message_id and _PRINTABLE.search(envelope.message_id) is None and len(envelope.message_id) < 900:
        lines[4:4] = [f"In-Reply-To: {envelope.message_id}", f"References: {envelope.message_id}"]
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "replace")


def _words(envelope: Envelope, failed: tuple[RecipientState, ...], action: Action, until: datetime | None) -> str:
    lines = [
        "This is an automatic report of the mail system.",
        *OPENINGS[action],
        "",
        f"  Subject:  {readable(envelope.subject) or '(none)'}",
        f"  Queue ID: {envelope.queue_id}",
        f"  Accepted: {envelope.received_at:%Y-%m-%d %H:%M:%S} UTC",
        "",
    ]
    for recipient in failed:
        lines.append(f"<{recipient.address}>")
        lines.append(f"    {_advice(recipient, action, until)}")
        if recipient.last is not None:
            spoken = _spoken(recipient.last)
            who = recipient.last.host or "this mail system"
            lines.append(f"    {who} said: {spoken} {recipient.last.text}")
        lines.append("")
    return "\n".join(_unbroken(line) for line in lines)


def _advice(recipient: RecipientState, action: Action, until: datetime | None) -> str:
    if action == "delayed":
        end = f" until {until:%Y-%m-%d %H:%M} UTC" if until is not None else ""
        return f"Delivery is tried again{end}. You need not do anything."
    if action == "relayed":
        return "The recipient's server has accepted the message; whether it was read is not known."
    if recipient.status == "expired":
        return EXPIRED_ADVICE
    return ADVICE[kind_of(recipient.last.enhanced, recipient.last.text) if recipient.last is not None else "other"]


def _fields(
    envelope: Envelope,
    failed: tuple[RecipientState, ...],
    reporting_mta: str,
    action: Action,
    until: datetime | None,
) -> str:
    lines: list[str] = []
    if envelope.envid:
        lines.append(f"Original-Envelope-Id: {_ascii(_meant(envelope.envid))}")  # RFC 3461 §6.3
    lines += [f"Reporting-MTA: dns; {reporting_mta}", f"Arrival-Date: {format_datetime(envelope.received_at)}"]
    asked = {r.number: r for r in envelope.recipients}
    for recipient in failed:
        lines.append("")
        original = asked[recipient.number].orcpt if recipient.number in asked else ""
        if original:
            lines.append(f"Original-Recipient: {_ascii(_meant(in_ascii(original)))}")
        lines.append(f"Final-Recipient: {_typed(recipient.address)}")
        lines.append(f"Action: {action}")  # RFC 3464 §2.3.3
        last = recipient.last
        lines.append(f"Status: {_status(recipient, action)}")
        if action == "delayed" and until is not None:
            lines.append(f"Will-Retry-Until: {format_datetime(until)}")  # RFC 3464 §2.3.9
        if last is not None:
            if last.host:
                lines.append(f"Remote-MTA: dns; {_ascii(last.host)}")
            kind = "smtp" if last.code else "x-postlane"
            spoken = _spoken(last)
            lines.append(f"Diagnostic-Code: {kind}; {_ascii(spoken + ' ' + last.text)}")
            if recipient.at is not None and recipient.status != "expired":  # that time is the end of the lifetime
                lines.append(f"Last-Attempt-Date: {format_datetime(recipient.at)}")
    return "\n".join(lines) + "\n"


def _status(recipient: RecipientState, action: Action) -> str:
    if recipient.status == "expired":
        return "5.4.7"  # RFC 3463 §3.5: delivery time expired
    digit = {"failed": "5", "delayed": "4", "relayed": "2"}[action]
    last = recipient.last
    return last.enhanced if last is not None and last.enhanced[:1] == digit else f"{digit}.0.0"


def _spoken(last: Diagnosis) -> str:
    return f"{last.code} {last.enhanced}" if last.code else last.enhanced


def _typed(address: str) -> str:
    """Write an address with its type (RFC 3464 §2.3.1, RFC 6533 §3 for addresses beyond ASCII)."""
    if address.isascii():
        return f"rfc822; {_ascii(address)}"
    return "utf-8; " + "".join(c if _XTEXT_SAFE.fullmatch(c) and c != "\\" else f"\\x{{{ord(c):X}}}" for c in address)


def _text(words: bytes) -> bytes:
    """Write the words so that every server can take them."""
    head, encoding = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n", b"7bit"
    if not words.isascii():
        words, encoding = b2a_qp(words), b"quoted-printable"
    return head % encoding + words


def _header_only(original: bytes, utf8: bool) -> bytes:
    head = _original_header(original)
    kind = b"message/global-headers" if utf8 and not head.isascii() else b"text/rfc822-headers"  # RFC 6533 §4
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (kind, _encoding(head)) + head


def _whole(original: bytes, utf8: bool) -> bytes:
    kind = b"message/global" if utf8 and not _original_header(original).isascii() else b"message/rfc822"
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n" % (kind, _encoding(original)) + original


def _encoding(content: bytes) -> bytes:
    return b"7bit" if content.isascii() else b"8bit"


def _meant(xtext: str) -> str:
    """Undo the encoding of a parameter of MAIL or RCPT (RFC 3461 §4); what is not in its form stays as it is."""
    return _XTEXT_OCTET.sub(lambda found: chr(int(found[1], 16)), xtext)


def _original_header(original: bytes) -> bytes:
    head = original.partition(b"\r\n\r\n")[0]
    if len(head) > ORIGINAL_HEADER_LIMIT:
        head = head[: head.rfind(b"\r\n", 0, ORIGINAL_HEADER_LIMIT) if b"\r\n" in head[:ORIGINAL_HEADER_LIMIT] else 0]
    return head.rstrip(b"\r\n") + b"\r\n"


def _ascii(text: str) -> str:
    return _PRINTABLE.sub("?", text)[:900]


def _unbroken(text: str) -> str:
    """Drop what could break a line, and keep lines under the limit (RFC 5322 §2.1.1)."""
    return "".join(c for c in text if c >= " " and c not in "\x7f\x85\u2028\u2029")[:240]


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("utf-8", "replace")
