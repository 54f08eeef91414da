"""A notice to people as a mail: written by a program, in plain text, from the operator's own address."""

from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256

from services.delivery.core.dsn import Report
from shared.contract.envelope import Envelope, Recipient
from shared.contract.events import NoticeRequested
from shared.contract.records import Configuration
from shared.mail.address import Address, parse_address
from shared.mail.ids import RANDOM_BYTES, QueueId, new_queue_id

SUBJECT_LIMIT = 200
NAME = "Postlane"


def queue_id_of(notice: NoticeRequested, days_earlier: int = 0) -> QueueId:
    """Return the queue ID of a notice's mail: the same for every repeat on that day, or on an earlier one.

    A request that is repeated has the same `id` but not the same time, and a queue ID begins with a time.
    """
    day = notice.at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_earlier)
    chance = sha256(f"notice {notice.id}".encode()).digest()[:RANDOM_BYTES]
    return new_queue_id(int(day.timestamp() * 1000), chance)


def written(notice: NoticeRequested, configuration: Configuration, sender: str, now: datetime) -> Report | None:
    """Return the mail of a notice, from `sender`, an address in the domain of `configuration`.

    None if none of its recipients is an address.
    """
    recipients = [a for a in map(parse_address, dict.fromkeys(notice.recipients)) if isinstance(a, Address)]
    if not recipients:
        return None
    queue_id = queue_id_of(notice)
    message_id = f"<{queue_id}@{configuration.domain}>"
    subject = _line(notice.subject)
    utf8 = not all(a.local.isascii() for a in recipients)
    mail = _mail(notice, subject, message_id, sender, recipients, now, utf8=utf8)
    envelope = Envelope(
        queue_id=queue_id,
        instance=configuration.instance,
        configuration=configuration.id,
        domain=configuration.domain,
        lane="transactional",
        sender=sender,
        recipients=tuple(
            # RFC 3461 §4.1: nobody is told that a notice could not be delivered.
            Recipient(number=number, address=f"{address.local}@{address.domain}", notify="NEVER")
            for number, address in enumerate(recipients, start=1)
        ),
        received_at=now,
        expires_at=None,
        size=len(mail),
        sha256=sha256(mail).hexdigest(),
        message_id=message_id,
        subject=subject,
        header_from=sender,
        eight_bit=not mail.isascii(),
        smtputf8=utf8,
    )
    return Report(envelope=envelope, mail=mail)


def _mail(
    notice: NoticeRequested,
    subject: str,
    message_id: str,
    sender: str,
    recipients: list[Address],
    now: datetime,
    *,
    utf8: bool,
) -> bytes:
    message = EmailMessage(SMTP.clone(cte_type="7bit", utf8=utf8))
    message["From"] = f"{NAME} <{sender}>"
    message["To"] = ", ".join(f"<{a.local}@{a.domain}>" for a in recipients)
    message["Subject"] = subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody answers this automatically
    text = notice.text.replace("\r\n", "\n").replace("\r", "\n")
    message.set_content(text if text.endswith("\n") else text + "\n")
    return message.as_bytes()


def _line(text: str) -> str:
    """Return a text as one line that fits a header field."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:SUBJECT_LIMIT]
