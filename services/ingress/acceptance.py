"""What is made of a message that nothing stands against: the payload that is stored, and the event that tells of it."""

import hashlib
from datetime import datetime, timedelta

import msgspec

from services.ingress.core import content, deadline, guard_rails
from services.ingress.core.admission import Account
from services.ingress.core.received import Trace
from services.ingress.journal import Posting
from services.ingress.session import SubmissionSession, Transaction
from shared.contract import subjects
from shared.contract.envelope import Carriage, Envelope, Recipient, pack
from shared.contract.events import acceptance
from shared.contract.records import Lane
from shared.mail.ids import QueueId

_encoder = msgspec.json.Encoder()


class Mint(msgspec.Struct, frozen=True):
    """What a message has from its acceptance on."""

    queue_id: QueueId
    at: datetime
    lane: Lane


def seal(
    host: str,
    session: SubmissionSession,
    transaction: Transaction,
    parsed: content.Parsed,
    account: Account,
    mint: Mint,
) -> tuple[Envelope, bytes]:
    """Build envelope and payload of what is stored. May run in a thread."""
    login, sender, configuration = session.login, transaction.sender, account.configuration
    if login is None or sender is None:
        raise RuntimeError("a message without a login or a sender")
    # Asked for by many clients just in case; a message that does not need it can go to any exchanger.
    smtputf8 = sender.smtputf8 and _needs_utf8(transaction, parsed)
    trace = Trace(host, session.client_name, session.client_address, session.tls, login.username)
    finished = content.finish(parsed, configuration.domain, trace, mint.queue_id, mint.at, smtputf8)
    envelope = Envelope(
        queue_id=mint.queue_id,
        instance=configuration.instance,
        configuration=configuration.id,
        domain=configuration.domain,
        lane=mint.lane,
        sender=sender.address.written if sender.address else "",
        recipients=tuple(
            [
                Recipient(number=number, address=each.address.written, notify=each.notify, orcpt=each.orcpt)
                for number, each in enumerate(transaction.recipients, 1)
            ]
        ),
        received_at=mint.at,
        expires_at=_expires(mint.at, configuration.lifetime_seconds, parsed),
        size=len(finished.octets),
        sha256=hashlib.sha256(finished.octets).hexdigest(),
        message_id=finished.message_id,
        subject=finished.subject,
        user=account.user.id,
        header_from=finished.header_from,
        eight_bit=finished.eight_bit,
        smtputf8=smtputf8,
        ret=sender.ret,
        envid=sender.envid,
        staging=guard_rails.staging(account.user),
    )
    return envelope, pack(Carriage(envelope=envelope), finished.octets)


def announcement(session: SubmissionSession, envelope: Envelope, findings: tuple[str, ...]) -> Posting:
    """Return the event of a message that is stored."""
    event = acceptance(
        envelope,
        username=session.login.username if session.login else "",
        client_address=session.client_address,
        client_name=session.client_name,
        endpoint=session.endpoint,
        tls=session.tls,
        findings=findings,
    )
    subject = subjects.accepted(envelope.instance, envelope.configuration, envelope.queue_id)
    return Posting(subject, "ACCEPTED", envelope.queue_id, _encoder.encode(event))


def _expires(at: datetime, lifetime_seconds: int | None, parsed: content.Parsed) -> datetime | None:
    """Return when a message is worthless: at the end of the configuration's lifetime or of its own deadline."""
    wished = deadline.expire_after(parsed.named)  # its faults were refused before
    lifetimes = [seconds for seconds in (lifetime_seconds, wished) if isinstance(seconds, int)]
    return at + timedelta(seconds=min(lifetimes)) if lifetimes else None


def _needs_utf8(transaction: Transaction, parsed: content.Parsed) -> bool:
    """Whether an address or the header has octets that only SMTPUTF8 carries (RFC 6531 §3.3)."""
    addresses = [each.address for each in transaction.recipients]
    if transaction.sender and transaction.sender.address:
        addresses.append(transaction.sender.address)
    return not (all(each.is_ascii for each in addresses) and all(field.raw.isascii() for field in parsed.fields))
