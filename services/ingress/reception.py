"""Admits transactions and receives whole messages: gates, content, queue ID, durable store, acceptance.

The steps a message takes: `open` at MAIL, then `receive` at the end of DATA.
"""

import asyncio
import secrets
from functools import partial

import msgspec

from services.ingress import acceptance, log_lines
from services.ingress.acceptance import Mint
from services.ingress.core import content, guard_rails, repeats
from services.ingress.core.admission import Account, Admitted
from services.ingress.core.commands import Destination, Sender, fits
from services.ingress.core.content import ContentLimits
from services.ingress.core.crowding import Crowding
from services.ingress.core.mime import MimeLimits
from services.ingress.core.refusal import Refusal
from services.ingress.directory import Directory
from services.ingress.gatekeeper import Gatekeeper, owned
from services.ingress.inspection import Inspection
from services.ingress.journal import Journal
from services.ingress.metrics import Metrics
from services.ingress.quotas import Quotas
from services.ingress.receipts import Receipts, Ticket
from services.ingress.session import Login, SubmissionSession, Transaction
from services.ingress.settings import IngressSettings
from services.ingress.spool import Spool
from shared.contract.subjects import Place, shard_of, slot_of
from shared.mail import reply
from shared.mail.ids import RANDOM_BYTES, QueueId, new_queue_id
from shared.runtime import clock

LARGE_BYTES = 262_144
"""Messages from this size on are examined in a thread, so that they do not hold up other sessions."""


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
        self._gatekeeper = Gatekeeper(directory)
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
        if sender.address is None:
            accounts = self._gatekeeper.entitled(session, login)
            return accounts if isinstance(accounts, Refusal) else None
        passage = self._gatekeeper.admit(session, login, sender.address.domain, reply.SENDER_NOT_ALLOWED)
        if isinstance(passage, Refusal):
            return passage
        account, admitted = passage.account, passage.admitted
        if refusal := self._quotas.used_up(account, admitted):
            return refusal
        if refusal := guard_rails.sender_refused(account.user, sender.address):
            return refusal
        return self._too_large(account, admitted, sender.size) or (account, admitted)

    async def receive(self, session: SubmissionSession, transaction: Transaction, message: bytes) -> QueueId | Refusal:
        """Receive a whole message; returns its queue ID once it is durable.

        Runs to its end even if the client is gone.
        """
        began = asyncio.get_running_loop().time()
        login, sender = session.login, transaction.sender
        if login is None or sender is None:
            raise RuntimeError("a message without a login or a sender")
        # Decided again: the standing may have moved, and the null sender is decided only here.
        accounts = self._gatekeeper.entitled(session, login) if transaction.account is None else ()
        if isinstance(accounts, Refusal):
            return accounts
        large = len(message) >= LARGE_BYTES
        parse = partial(content.parse, message, self._limits, self._host)
        parsed = await asyncio.to_thread(parse) if large else parse()
        if isinstance(parsed, Refusal):
            if transaction.account is None:
                return msgspec.structs.replace(parsed, instance=accounts[0].configuration.instance)
            return owned(parsed, transaction.account)
        domain = transaction.account.configuration.domain if transaction.account else parsed.author.domain
        passage = self._gatekeeper.admit(session, login, domain, reply.HEADER_FROM_NOT_ALLOWED)
        if isinstance(passage, Refusal):
            return passage
        account, admitted = passage.account, passage.admitted
        if refusal := self._overstepped(transaction, parsed, account, admitted, len(message)):
            return owned(refusal, account)
        check = partial(self._check, sender, parsed, account)
        refusal = await asyncio.to_thread(check) if large else check()
        if refusal is not None:
            return owned(refusal, account)
        findings: tuple[str, ...] | Refusal = ()
        if self._inspection.asked(account, admitted):
            findings = await self._inspection.examine(session, transaction, parsed, message, account, admitted)
        if isinstance(findings, Refusal):
            return owned(findings, account)
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
        ticket: Ticket | repeats.Done | Refusal | None = None
        if repeats.claims(account.configuration.repeats, parsed.named):
            ticket = await self._ticket(transaction, parsed, account, admitted, crowded)
        if isinstance(ticket, Refusal):
            self._quotas.give(account, admitted)
            return owned(ticket, account)
        if isinstance(ticket, repeats.Done):
            self._quotas.give(account, admitted)
            self._metrics.repeated.inc()
            log_lines.repeated(session, ticket.queue_id)
            return QueueId(ticket.queue_id)
        # A ticket brings the queue ID, and the time and lane of the first submission: stored again, it is the same.
        mint = Mint(
            QueueId(ticket.receipt.queue_id) if ticket else _new_id(),
            ticket.receipt.at if ticket else clock.now(),
            ticket.receipt.lane if ticket else admitted.lane,
        )
        if len(parsed.body) < LARGE_BYTES:
            envelope, payload = acceptance.seal(self._host, session, transaction, parsed, account, mint)
        else:
            envelope, payload = await asyncio.to_thread(
                acceptance.seal, self._host, session, transaction, parsed, account, mint
            )
        configuration = account.configuration
        place = Place(
            shard_of(envelope.queue_id, self._spool.shards),
            envelope.lane,
            slot_of(configuration.id, self._slots, crowded=ticket.receipt.crowded if ticket else crowded),
            configuration.id,
            envelope.queue_id,
        )
        loop = asyncio.get_running_loop()
        sealed = loop.time()
        outcome = await self._spool.store(place, payload, again=ticket is not None and ticket.again)
        self._metrics.store_seconds.observe(loop.time() - sealed)
        if ticket is not None:
            await self._receipts.close(ticket, stored=outcome == "stored")
        if outcome == "unknown" and ticket is None:
            # The client will send it again under another queue ID; with a ticket it gets this one's.
            self._spool.withdraw(place)
        if outcome != "stored":
            self._quotas.give(account, admitted)
            text = reply.STORE_FULL if outcome == "full" else reply.LOCAL_FAULT
            return Refusal(text, f"the bus did not store it: {outcome}", configuration.instance, configuration.id)
        # Not awaited: a reconciler re-creates what a crash may lose between here and the bus.
        self._accepted.post(acceptance.announcement(session, envelope, findings))
        log_lines.accepted(session, envelope, loop.time() - began)
        self._metrics.accepted_in[envelope.lane].inc()
        self._metrics.accepted_bytes.inc(envelope.size)
        return QueueId(envelope.queue_id)

    def recipient(self, transaction: Transaction, recipient: Destination) -> Refusal | None:
        """Decide a RCPT command; with a null sender the user's limits are looked at when the message is here."""
        account, admitted = transaction.account, transaction.admitted
        if len(transaction.recipients) >= self._most_recipients(admitted):
            return Refusal(reply.TOO_MANY_RECIPIENTS, "too many recipients in one message")
        if not fits(transaction.recipient_octets, recipient):
            return Refusal(reply.TOO_MANY_RECIPIENTS, "the recipients of one message are too long together")
        return guard_rails.recipient_refused(account.user, recipient.address) if account else None

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
        return owned(Refusal(text, f"{octets} octets, the configuration may send {admitted.message_bytes}"), account)

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
    ) -> Ticket | repeats.Done | Refusal:
        """Look up a message that may be a repetition."""
        configuration, sender = account.configuration, transaction.sender
        submitted = repeats.Submitted(
            configuration.id,
            account.user.id,
            sender.address.written if sender and sender.address else "",
            tuple(each.address.written for each in transaction.recipients),
            parsed.fields,
            parsed.body,
        )
        large = len(parsed.body) >= LARGE_BYTES
        claim = await asyncio.to_thread(repeats.claim, submitted) if large else repeats.claim(submitted)
        if isinstance(claim, Refusal):
            return claim
        return await self._receipts.open(claim, _new_id(), admitted.lane, crowded)


def _new_id() -> QueueId:
    return new_queue_id(clock.now_ms(), secrets.token_bytes(RANDOM_BYTES))
