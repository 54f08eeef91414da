"""Admits transactions and receives whole messages: gates, content, queue ID, durable store, acceptance.

The steps a message takes: `open` at MAIL, then `receive` at the end of DATA.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

import msgspec

from services.ingress import log_lines
from services.ingress.core import admission, content, deadline, guard_rails, repeats
from services.ingress.core.admission import Account, Admitted
from services.ingress.core.commands import Sender
from services.ingress.core.content import ContentLimits
from services.ingress.core.crowding import Crowding
from services.ingress.core.mime import MimeLimits
from services.ingress.core.received import Trace
from services.ingress.core.refusal import Refusal
from services.ingress.directory import Directory
from services.ingress.inspection import Inspection
from services.ingress.journal import Journal, Posting
from services.ingress.metrics import Metrics
from services.ingress.quotas import Quotas
from services.ingress.receipts import Receipts, Ticket
from services.ingress.session import Login, SubmissionSession, Transaction
from services.ingress.settings import IngressSettings
from services.ingress.spool import Spool
from shared.contract import subjects
from shared.contract.envelope import Carriage, Envelope, Recipient, pack
from shared.contract.events import MessageAccepted
from shared.contract.subjects import Place, shard_of, slot_of
from shared.mail import reply
from shared.mail.address import Address
from shared.mail.ids import RANDOM_BYTES, QueueId, new_queue_id
from shared.runtime import clock

R = TypeVar("R")

LARGE_BYTES = 262_144
"""Messages from this size on are examined in a thread, so that they do not hold up other sessions."""


class _Ready(msgspec.Struct, frozen=True):
    """A message ready to be stored."""

    envelope: Envelope
    payload: bytes


class Reception:
    """Decides with the directory and stores with the spool; one per process."""

    def __init__(
        self,
        directory: Directory,
        spool: Spool,
        accepted: Journal,
        metrics: Metrics,
        settings: IngressSettings,
        slots: int,
        quotas: Quotas,
        receipts: Receipts,
        inspection: Inspection,
    ) -> None:
        """Use what its owner has made and started."""
        self._inspection = inspection
        self._receipts = receipts
        self._quotas = quotas
        self._directory = directory
        self._spool = spool
        self._accepted = accepted
        self._metrics = metrics
        self._host = settings.host_name
        self._slots = slots
        self._crowding = Crowding(settings.calm_burst, settings.calm_messages_per_second)
        self._limits = ContentLimits(
            settings.header_bytes,
            settings.header_lines,
            settings.hops,
            settings.own_hops,
            MimeLimits(settings.mime_depth, settings.mime_parts),
        )
        self._message_bytes, self._recipients = settings.message_bytes, settings.recipients

    def open(
        self, session: SubmissionSession, login: Login, sender: Sender
    ) -> tuple[Account, Admitted] | Refusal | None:
        """Decide a MAIL command; None for a null sender, which is decided by the header From."""
        accounts = self._entitled(session, login)
        if isinstance(accounts, Refusal):
            return accounts
        if sender.address is None:
            return None
        chosen = self._choose(session, accounts, sender.address.domain, reply.SENDER_NOT_ALLOWED)
        if isinstance(chosen, Refusal):
            return chosen
        account, admitted = chosen
        if refusal := guard_rails.sender_refused(account.user, sender.address):
            return refusal
        return self._too_large(account, admitted, sender.size) or chosen

    async def receive(self, session: SubmissionSession, transaction: Transaction, message: bytes) -> QueueId | Refusal:
        """Receive a whole message; returns its queue ID once it is durable.

        Runs to its end even if the client is gone.
        """
        began = asyncio.get_running_loop().time()
        login, sender = session.login, transaction.sender
        if login is None or sender is None:
            raise RuntimeError("a message without a login or a sender")
        # Decided again: the standing may have moved, and the null sender is decided only here.
        accounts = self._entitled(session, login)
        if isinstance(accounts, Refusal):
            return accounts
        parsed = await _work(len(message), partial(content.parse, message, self._limits, self._host))
        if isinstance(parsed, Refusal):
            if transaction.account is None:
                return msgspec.structs.replace(parsed, instance=accounts[0].configuration.instance)
            return _owned(parsed, transaction.account)
        domain = transaction.account.configuration.domain if transaction.account else parsed.author.domain
        chosen = self._choose(session, accounts, domain, reply.HEADER_FROM_NOT_ALLOWED)
        if isinstance(chosen, Refusal):
            return chosen
        account, admitted = chosen
        if refusal := self._overstepped(transaction, parsed, account, admitted, len(message)):
            return _owned(refusal, account)
        refusal = await _work(len(message), partial(self._check, sender, parsed, account))
        if refusal is not None:
            return _owned(refusal, account)
        findings: tuple[str, ...] | Refusal = ()
        if self._inspection.asked(account, admitted):
            findings = await self._inspection.examine(session, transaction, parsed, message, account, admitted)
        if isinstance(findings, Refusal):
            return _owned(findings, account)
        # Looked at again and taken in one step: others were received while this message was examined.
        if refusal := self._quotas.take(account, admitted):
            return refusal
        try:
            return await self._take_in(session, transaction, parsed, account, admitted, findings, began)
        except BaseException:  # a fault of ours, or the end of the process
            self._quotas.give(account, admitted)
            raise

    async def _take_in(
        self,
        session: SubmissionSession,
        transaction: Transaction,
        parsed: content.Parsed,
        account: Account,
        admitted: Admitted,
        findings: tuple[str, ...],
        began: float,
    ) -> QueueId | Refusal:
        """Store a message that nothing stands against any more, and tell of it."""
        crowded = self._crowding.count(account.configuration.id, began)
        ticket = await self._ticket(transaction, parsed, account, admitted, crowded)
        if isinstance(ticket, Refusal):
            self._quotas.give(account, admitted)
            return _owned(ticket, account)
        if isinstance(ticket, repeats.Done):
            self._quotas.give(account, admitted)
            self._metrics.repeated.inc()
            log_lines.repeated(session, ticket.queue_id)
            return QueueId(ticket.queue_id)
        ready = await _work(
            len(parsed.body), partial(self._seal, session, transaction, parsed, account, admitted, ticket)
        )
        configuration, envelope = account.configuration, ready.envelope
        place = Place(
            shard_of(envelope.queue_id, self._spool.shards),
            envelope.lane,
            slot_of(configuration.id, self._slots, crowded=ticket.receipt.crowded if ticket else crowded),
            configuration.id,
            envelope.queue_id,
        )
        with self._metrics.store_seconds.time():
            outcome = await self._spool.store(place, ready.payload, again=ticket is not None and ticket.again)
        if ticket is not None:
            await self._receipts.close(ticket, stored=outcome == "stored")
        if outcome == "unknown" and ticket is None:
            # The client will send it again under another queue ID; with a ticket it gets this one's.
            self._spool.withdraw(place)
        if outcome != "stored":
            self._quotas.give(account, admitted)
            text = reply.STORE_FULL if outcome == "full" else reply.LOCAL_FAULT
            return Refusal(text, f"the bus did not store it: {outcome}", configuration.instance, configuration.id)
        self._announce(session, envelope, findings)
        log_lines.accepted(session, envelope, asyncio.get_running_loop().time() - began)
        self._metrics.accepted.labels(envelope.lane).inc()
        self._metrics.accepted_bytes.inc(envelope.size)
        return QueueId(envelope.queue_id)

    def _entitled(self, session: SubmissionSession, login: Login) -> tuple[Account, ...] | Refusal:
        """Return the login's accounts whose password is still valid, if one of them may be used from this address."""
        accounts = admission.still_valid(self._directory.accounts(login.username), login.verified, clock.now())
        if not accounts:
            return Refusal(reply.CREDENTIALS_WITHDRAWN, "the user, its password or its configuration is gone")
        denials = [self._denied(session, account) for account in accounts]
        if all(denials):
            return denials[0] or accounts
        return accounts

    def _denied(self, session: SubmissionSession, account: Account) -> Refusal | None:
        denial = self._directory.denial(account, session.address, session.endpoint)
        return _owned(Refusal(reply.ADDRESS_NOT_ALLOWED, denial), account) if denial else None

    def _choose(
        self, session: SubmissionSession, accounts: tuple[Account, ...], domain: str, refusal_text: reply.Reply
    ) -> tuple[Account, Admitted] | Refusal:
        account = admission.select(accounts, domain)
        if account is None:
            return admission.sender_refused(accounts, domain, refusal_text)
        if denied := self._denied(session, account):
            return denied
        configuration = account.configuration
        admitted = admission.gate(configuration, self._directory.gates(configuration.id))
        if isinstance(admitted, Refusal):
            return admitted
        return self._quotas.used_up(account, admitted) or (account, admitted)

    def recipient(self, transaction: Transaction, recipient: Address) -> Refusal | None:
        """Decide a RCPT command; with a null sender the user's limits are looked at when the message is here."""
        account, admitted = transaction.account, transaction.admitted
        if len(transaction.recipients) >= self._most_recipients(admitted):
            return Refusal(reply.TOO_MANY_RECIPIENTS, "too many recipients in one message")
        return guard_rails.recipient_refused(account.user, recipient) if account else None

    def largest(self, transaction: Transaction) -> int:
        """Return the octets a message may have, as far as its configuration is known."""
        granted = transaction.admitted.message_bytes if transaction.admitted else 0
        return min(granted or self._message_bytes, self._message_bytes)

    def _most_recipients(self, admitted: Admitted | None) -> int:
        return (admitted.recipients if admitted else 0) or self._recipients

    def _too_large(self, account: Account, admitted: Admitted, octets: int) -> Refusal | None:
        if not admitted.message_bytes or octets <= admitted.message_bytes:
            return None
        text = reply.TOO_LARGE.with_(limit=str(admitted.message_bytes))
        return _owned(Refusal(text, f"{octets} octets, the configuration may send {admitted.message_bytes}"), account)

    def _overstepped(
        self, transaction: Transaction, parsed: content.Parsed, account: Account, admitted: Admitted, octets: int
    ) -> Refusal | None:
        """Hold a message to the limits of its user, and a null sender's to those of its configuration too."""
        refusal = guard_rails.sender_refused(account.user, parsed.author, reply.HEADER_FROM_NOT_OF_USER)
        if refusal or transaction.account is not None:
            return refusal
        if len(transaction.recipients) > self._most_recipients(admitted):
            return Refusal(reply.TOO_MANY_RECIPIENTS, "too many recipients in one message")
        refusals = (guard_rails.recipient_refused(account.user, each.address) for each in transaction.recipients)
        return next((each for each in refusals if each), None) or self._too_large(account, admitted, octets)

    def _check(self, sender: Sender, parsed: content.Parsed, account: Account) -> Refusal | None:
        """Check the content for its configuration. May run in a thread."""
        configuration = account.configuration
        return content.check(
            parsed, configuration.domain, configuration.attachments_allowed, sender.smtputf8, self._limits
        )

    async def _ticket(
        self, transaction: Transaction, parsed: content.Parsed, account: Account, admitted: Admitted, crowded: bool
    ) -> Ticket | repeats.Done | Refusal | None:
        """Look up a message that may be a repetition; None for all others, which pay nothing for it."""
        configuration, sender = account.configuration, transaction.sender
        if not repeats.claims(configuration.repeats, parsed.fields):
            return None
        submitted = repeats.Submitted(
            configuration.id,
            account.user.id,
            sender.address.written if sender and sender.address else "",
            tuple(each.address.written for each in transaction.recipients),
            parsed.fields,
            parsed.body,
        )
        claim = await _work(len(parsed.body), partial(repeats.claim, submitted))
        if isinstance(claim, Refusal):
            return claim
        return await self._receipts.open(claim, _new_id(), admitted.lane, crowded)

    def _seal(
        self,
        session: SubmissionSession,
        transaction: Transaction,
        parsed: content.Parsed,
        account: Account,
        admitted: Admitted,
        ticket: Ticket | None,
    ) -> _Ready:
        """Build what is stored. May run in a thread."""
        login, sender, configuration = session.login, transaction.sender, account.configuration
        if login is None or sender is None:
            raise RuntimeError("a message without a login or a sender")
        # A ticket brings the queue ID, and the time and lane of the first submission: stored again, it is the same.
        at = ticket.receipt.at if ticket else clock.now()
        queue_id = QueueId(ticket.receipt.queue_id) if ticket else _new_id()
        # Asked for by many clients just in case; a message that does not need it can go to any exchanger.
        smtputf8 = sender.smtputf8 and _needs_utf8(transaction, parsed)
        trace = Trace(self._host, session.client_name, session.address, session.tls, login.username)
        finished = content.finish(parsed, configuration.domain, trace, queue_id, at, smtputf8)
        wished = deadline.expire_after(parsed.fields)  # its faults were refused before
        lifetimes = [seconds for seconds in (configuration.lifetime_seconds, wished) if isinstance(seconds, int)]
        envelope = Envelope(
            queue_id=queue_id,
            instance=configuration.instance,
            configuration=configuration.id,
            domain=configuration.domain,
            lane=ticket.receipt.lane if ticket else admitted.lane,
            sender=sender.address.written if sender.address else "",
            recipients=tuple(
                Recipient(number=number, address=each.address.written, notify=each.notify, orcpt=each.orcpt)
                for number, each in enumerate(transaction.recipients, 1)
            ),
            received_at=at,
            expires_at=at + timedelta(seconds=min(lifetimes)) if lifetimes else None,
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
        return _Ready(envelope, pack(Carriage(envelope=envelope), finished.octets))

    def _announce(self, session: SubmissionSession, envelope: Envelope, findings: tuple[str, ...]) -> None:
        event = MessageAccepted(
            id=envelope.queue_id,
            at=envelope.received_at,
            queue_id=envelope.queue_id,
            instance=envelope.instance,
            configuration=envelope.configuration,
            lane=envelope.lane,
            sender=envelope.sender,
            recipients=tuple(each.address for each in envelope.recipients),
            size=envelope.size,
            sha256=envelope.sha256,
            message_id=envelope.message_id,
            subject=envelope.subject,
            header_from=envelope.header_from,
            user=envelope.user,
            username=session.login.username if session.login else "",
            client_address=session.client_address,
            client_name=session.client_name,
            endpoint=session.endpoint,
            tls=session.tls,
            expires_at=envelope.expires_at,
            staging=envelope.staging.mode if envelope.staging else "",
            findings=findings,
        )
        subject = subjects.accepted(envelope.instance, envelope.configuration, envelope.queue_id)
        # Not awaited: a reconciler re-creates what a crash may lose between here and the bus.
        self._accepted.post(Posting(subject, "ACCEPTED", envelope.queue_id, msgspec.json.encode(event)))


def _new_id() -> QueueId:
    return new_queue_id(clock.now_ms(), secrets.token_bytes(RANDOM_BYTES))


def _needs_utf8(transaction: Transaction, parsed: content.Parsed) -> bool:
    """Whether an address or the header has octets that only SMTPUTF8 carries (RFC 6531 §3.3)."""
    addresses = [each.address for each in transaction.recipients]
    if transaction.sender and transaction.sender.address:
        addresses.append(transaction.sender.address)
    return not (all(each.is_ascii for each in addresses) and all(field.raw.isascii() for field in parsed.fields))


def _owned(refusal: Refusal, account: Account) -> Refusal:
    """Put a refusal of content into the feed of the tenant it belongs to."""
    configuration = account.configuration
    return msgspec.structs.replace(refusal, instance=configuration.instance, configuration=configuration.id)


async def _work(size: int, act: Callable[[], R]) -> R:
    """Do a computation on a message: here if it is short, in a thread if it would hold up other sessions."""
    return await asyncio.to_thread(act) if size >= LARGE_BYTES else act()
