"""The commands of message submission: EHLO, STARTTLS, MAIL, RCPT, DATA and the small ones (RFC 6409); AUTH lies beside.

Order of checks: TLS, login, access rules, standing, sender domain, rate, recipients, size, content, durable store.
"""

# ruff: noqa: N802 - aiosmtpd names commands smtp_VERB

import msgspec

from services.ingress.core import commands
from services.ingress.core.admission import Account
from services.ingress.core.refusal import Refusal
from services.ingress.core.transparency import DataDecoder
from services.ingress.sasl_exchange import SaslExchange
from services.ingress.session import Login, Transaction
from services.ingress.smtpd import PROOF_WAIT_SECONDS, Closing
from shared.mail import reply
from shared.mail.reply import Reply

USE_NOTED_SECONDS = 1.0


class Submission(SaslExchange):
    """One connection of a client that submits mail."""

    # -- session commands -------------------------------------------------------------------------------------------

    async def smtp_HELO(self, argument: str) -> None:
        """HELO: accepted, but nothing can be sent without EHLO."""
        if self._introduced(argument, "HELO host"):
            self.session.extended_smtp = False
            self._say(Reply(250, "", self.hostname))

    async def smtp_EHLO(self, argument: str) -> None:
        """EHLO: what is truly implemented, and AUTH only where it may be used."""
        if not self._introduced(argument, "EHLO host"):
            return
        self.session.extended_smtp = True
        offered = [
            self.hostname,
            "PIPELINING",  # RFC 2920
            f"SIZE {self.settings.message_bytes}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "DSN",  # RFC 3461
            f"LIMITS RCPTMAX={self.settings.recipients}",  # RFC 9422
        ]
        offered.append("AUTH PLAIN LOGIN" if self.session.tls else "STARTTLS")  # RFC 4954 §4, RFC 3207
        for line in offered[:-1]:
            self._replies += f"250-{line}\r\n".encode("ascii")
        self._say(Reply(250, "", offered[-1]))

    def _introduced(self, argument: str, syntax: str) -> bool:
        if not argument or " " in argument or len(argument) > 255 or not argument.isascii():
            self._refuse(Refusal(reply.BAD_ARGUMENTS.with_(syntax=syntax), "a name without spaces is needed"))
            return False
        self.envelope = Transaction()  # RFC 5321 §4.1.4
        self.session.host_name = argument
        return True

    async def smtp_NOOP(self, argument: str) -> None:
        """NOOP."""
        self._say(reply.OK)

    async def smtp_RSET(self, argument: str) -> None:
        """RSET: forget the transaction."""
        if argument:
            self._wrong_arguments("RSET")
            return
        self.envelope = Transaction()
        self._say(reply.OK)

    async def smtp_QUIT(self, argument: str) -> None:
        """QUIT."""
        if argument:
            self._wrong_arguments("QUIT")
            return
        self._say(reply.CLOSING)
        raise Closing

    async def smtp_HELP(self, argument: str) -> None:
        """HELP: where to read, nothing about this server."""
        self._say(Reply(214, "2.0.0", "See RFC 5321 and RFC 6409"))

    async def smtp_VRFY(self, argument: str) -> None:
        """VRFY: the same answer for everybody (RFC 5321 §7.3)."""
        if argument:
            self._say(reply.CANNOT_VERIFY)
        else:
            self._wrong_arguments("VRFY address")

    async def smtp_EXPN(self, argument: str) -> None:
        """EXPN: not offered."""
        self._refuse(Refusal(reply.NOT_IMPLEMENTED.with_(command="EXPN"), "EXPN is not offered"))

    # -- security ---------------------------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, argument: str) -> None:
        """STARTTLS: nothing said in clear survives it (RFC 3207 §4.2)."""
        if argument:
            self._wrong_arguments("STARTTLS")
        elif self.session.tls:
            self._out_of_sequence("TLS is already in use")
        elif len(self.inbound):
            # A command sent along with STARTTLS came in clear and must not be taken as said inside TLS.
            advice = "nothing may follow STARTTLS before its reply"
            self._end(Refusal(reply.BAD_SEQUENCE.with_(advice=advice), advice))
        else:
            self._say(reply.START_TLS)
            self._write_out()
            await self._start_tls()

    # -- the transaction --------------------------------------------------------------------------------------------

    async def smtp_MAIL(self, argument: str) -> None:
        """MAIL: the sender's domain selects the configuration, whose gates must be open."""
        login = self.session.login
        if not self.session.tls:
            self._refuse(Refusal(reply.TLS_REQUIRED, "MAIL without TLS"))
            return
        if login is None:
            self._refuse(Refusal(reply.AUTH_REQUIRED, "MAIL without AUTH"))
            return
        if not (self.session.host_name or self.session.greeted):
            self._out_of_sequence("send EHLO first")
            return
        if self.envelope.sender is not None:
            self._out_of_sequence("a transaction is open, finish it or send RSET")
            return
        self._excuses = self.settings.recipients + 1
        self.session.transactions += 1
        if self.session.transactions > self.settings.transactions:
            self._end(Refusal(reply.TOO_MANY_ERRORS, "too many transactions in one session"))
        sender = commands.parse_mail(argument)
        if isinstance(sender, Reply):
            self._refuse(Refusal(sender, "MAIL is not valid"))
            return
        if sender.size > self.settings.message_bytes:  # RFC 1870 §6.1
            limit = str(self.settings.message_bytes)
            self._refuse(Refusal(reply.TOO_LARGE.with_(limit=limit), f"{sender.size} octets were announced"))
            return
        if not await self.desk.proof.awaited(PROOF_WAIT_SECONDS):
            self._end(Refusal(reply.NOT_READY.with_(host=self.hostname), "the bus has not proven to store safely"))
        decision = self.desk.reception.open(self.session, login, sender)
        if isinstance(decision, Refusal):
            # Only for the record: the refused sender is not taken into the transaction.
            self.envelope.sender = sender
            self._refuse(decision)
            self.envelope = Transaction()
            self._end_if_told(decision)
            return
        self.envelope.sender = sender
        if decision is not None:
            self.envelope.account, self.envelope.admitted = decision
        self._excuses = 0
        self._say(reply.SENDER_OK)

    async def smtp_RCPT(self, argument: str) -> None:
        """RCPT: any valid address; the one too many is told 452 and the others stay (RFC 5321 §4.5.3.1.10)."""
        if not self._in_transaction("RCPT"):
            return
        sender = self.envelope.sender
        destination = commands.parse_rcpt(argument, smtputf8=sender is not None and sender.smtputf8)
        if isinstance(destination, Reply):
            self._refuse(self._owned(Refusal(destination, "RCPT is not valid")))
        elif self.envelope.is_known(destination.address.written):
            self._say(reply.RECIPIENT_OK)  # named twice, sent once
        elif refusal := self.desk.reception.recipient(self.envelope, destination):
            self._refuse(self._owned(refusal))
        else:
            self.envelope.add(destination)
            self._say(reply.RECIPIENT_OK)

    def _in_transaction(self, verb: str) -> bool:
        if not self.session.tls:
            self._refuse(Refusal(reply.TLS_REQUIRED, f"{verb} without TLS"))
        elif self.session.login is None:
            self._refuse(Refusal(reply.AUTH_REQUIRED, f"{verb} without AUTH"))
        elif self.envelope.sender is None:
            self._excuses -= 1
            self._out_of_sequence("send MAIL first", excused=self._excuses >= 0)
        else:
            return True
        return False

    def _owned(self, refusal: Refusal) -> Refusal:
        account = self.envelope.account
        if account is None or refusal.instance:
            return refusal
        configuration = account.configuration
        return msgspec.structs.replace(refusal, instance=configuration.instance, configuration=configuration.id)

    async def smtp_DATA(self, argument: str) -> None:
        """Take the octets up to CRLF.CRLF and nothing else, then do everything that leads to a queue ID."""
        if len(self.inbound):
            # RFC 2920 §3.1: DATA ends a group. Octets sent before 354 could be body or commands: neither is guessed.
            advice = "wait for 354 before sending the message"
            self._end(self._owned(Refusal(reply.BAD_SEQUENCE.with_(advice=advice), advice)))
        if not self._in_transaction("DATA"):
            return
        if argument:
            self._wrong_arguments("DATA")
            return
        if not self.envelope.recipients:
            self._refuse(self._owned(Refusal(reply.NO_VALID_RECIPIENTS, "DATA without a valid recipient")))
            return
        transaction = self.envelope
        # Only asked for here, and reserved as octets arrive: an announcement must not take room from others.
        if transaction.sender and not self.desk.budget.has_room(self._owner, transaction.sender.size):
            self._refuse(self._owned(Refusal(reply.BUSY, "the budget of octets in flight is used up")))
            self.envelope = Transaction()
            return
        try:
            decoder = DataDecoder(self.desk.reception.largest(transaction))
            await self._read_data(decoder)
            outcome = await self._receive(transaction, decoder)
        finally:
            # Whatever happened, the next message must not meet this one's recipients.
            self.envelope = Transaction()
            self._reserve(0)
        if isinstance(outcome, Refusal):
            self.envelope = transaction
            self._phase = "data"
            self._refuse(self._owned(outcome))
            self.envelope = Transaction()
            self._end_if_told(outcome)
            return
        self.session.accepted += 1
        if self.session.login is not None and transaction.account is not None:
            self._note_use(self.session.login, transaction.account)
        self._idle = 0
        self._say(reply.QUEUED.with_(queue_id=outcome))

    def _note_use(self, login: Login, account: Account) -> None:
        """Note who uses which password, once a second at most."""
        whose, at = self.session.use_noted
        now = self.loop.time()
        if whose != account.user.id or now - at >= USE_NOTED_SECONDS:
            self.session.use_noted = (account.user.id, now)
            self.desk.usage.used(self.session, login, account)

    def _end_if_told(self, refusal: Refusal) -> None:
        if refusal.reply.code == 421:  # RFC 5321 §3.8
            raise Closing

    @property
    def _owner(self) -> str:
        return self.session.login.username if self.session.login else ""

    def _reserve(self, octets: int) -> bool:
        """Make this session's share of the budget so large; False if there is no room, which changes nothing."""
        budget = self.desk.budget
        if octets > self._reserved and not budget.take(self._owner, octets - self._reserved):
            return False
        if octets < self._reserved:
            budget.give(self._owner, self._reserved - octets)
        self._reserved = octets
        return True

    async def _read_data(self, decoder: DataDecoder) -> None:
        """Read until the end of the message, whatever becomes of it."""
        self._say(reply.SEND_DATA)
        await self._flush()
        deadline = self.loop.time() + self.settings.data_total_seconds
        rest: bytes | None = None
        while rest is None:
            if not len(self.inbound):
                await self.inbound.more(min(self.settings.data_seconds, deadline - self.loop.time()))
                continue
            rest = decoder.feed(self.inbound.take())
            if not decoder.trouble and decoder.held > self._reserved and not self._reserve(decoder.held):
                decoder.give_up("no budget")
            if decoder.trouble:
                self._reserve(0)
            if rest is None and decoder.discarded > self.settings.message_bytes:
                self._end(self._owned(self._trouble(decoder)))
        self.inbound.give_back(rest)

    def _trouble(self, decoder: DataDecoder) -> Refusal:
        match decoder.trouble:
            case "too large":
                limit = str(self.desk.reception.largest(self.envelope))
                return Refusal(reply.TOO_LARGE.with_(limit=limit), "the message is larger than the limit")
            case "no budget":
                return Refusal(reply.BUSY, "the budget of octets in flight is used up")
            case _:
                return Refusal(reply.LINE_IN_MESSAGE_TOO_LONG, "a line of the message is too long")

    async def _receive(self, transaction: Transaction, decoder: DataDecoder) -> str | Refusal:
        if decoder.trouble:
            return self._trouble(decoder)
        try:
            return await self.desk.reception.receive(self.session, transaction, decoder.message())
        except Exception:  # never 5xx, and never an exception's text, for a fault of ours
            self.desk.log.exception("a message could not be received", extra={"client": self.session.client_address})
            return Refusal(reply.LOCAL_FAULT, "an internal fault while receiving the message")


Submission.COMMANDS = {
    name.removeprefix("smtp_"): getattr(Submission, name)
    for part in (SaslExchange, Submission)
    for name in vars(part)
    if name.startswith("smtp_")
}
