"""One visit to one door: connection, encryption, one transaction; its end is a value for each recipient."""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Protocol

import aiosmtplib
import msgspec

from services.delivery.core import offer, outcome
from services.delivery.core.lines import command
from services.delivery.core.outcome import Bounced, Deferred, Delivered, Outcome, Phase
from services.delivery.core.route import Door
from services.delivery.encryption import Encryption
from services.delivery.pool import Pool, Spot
from services.delivery.session import MayFinish, Reply, Session, Stopped
from shared.contract.envelope import Envelope, Recipient
from shared.contract.events import ExchangerTried

log = logging.getLogger("delivery")

ACCEPTED = range(250, 260)
"""Of a server that does what was asked, with whatever third digit (RFC 5321 §4.2.1)."""


_BROKEN_OFF = outcome.ours("4.3.2", "the attempt was broken off before the final dot, for this worker is being stopped")


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out: the envelope and the signed octets."""

    envelope: Envelope
    mail: bytes
    pool: str = ""
    """Name of the configuration's pool of outgoing addresses."""


class Tools(Protocol):
    """What a visit borrows from its courier."""

    pool: Pool
    encryption: Encryption
    port: int
    visits: set["Visit"]
    """Those that are under way."""
    stopping: bool
    """No visit begins any more."""

    def session(self, source: str = "") -> Session:
        """Return a new session, not yet connected, that will come from one of our addresses."""

    def source(self, configuration: str, address: str, pool: str = "") -> str | None:
        """Return our address towards an address, "" for any, None if there is none for it."""


class _Ended(Exception):
    """A visit is over for all recipients it has not decided."""

    def __init__(self, result: Outcome) -> None:
        self.result = result


class Visit:
    """One door, up to two connections (a second one if TLS fails), one transaction."""

    def __init__(
        self,
        tools: Tools,
        door: Door,
        parcel: Parcel,
        recipients: Sequence[Recipient],
        may_finish: MayFinish,
        deadline: float,
    ) -> None:
        self._tools = tools
        self._door = door
        self._parcel = parcel
        self._recipients = recipients
        self._may_finish = may_finish
        self._deadline = deadline
        self._phase: Phase = "connect"
        self._timer: asyncio.Timeout | None = None
        self._started = asyncio.get_running_loop().time()
        self._tls = ""
        self._verified = False
        self._problem = ""
        self._dsn = False
        self._broken_off = False
        self._source = tools.source(parcel.envelope.configuration, door.address, parcel.pool)
        self._spot = Spot(door.host, door.address, self._source or "", door.demand.enforced)
        self.dots = 0

    async def run(self) -> dict[int, Outcome]:
        """Return the outcome of every recipient of this visit."""
        decided: dict[int, Outcome] = {}
        session: Session | None = None
        result: Outcome
        try:
            if self._tools.stopping:
                raise _Ended(_BROKEN_OFF)
            if self._source is None:
                said = f"the pool {self._parcel.pool} has no address that reaches {self._door.address}"
                raise _Ended(outcome.lost(said, "route", "4.4.4", host=self._door.host, address=self._door.address))
            async with asyncio.timeout_at(self._deadline) as self._timer:
                self._tools.visits.add(self)
                session = self._tools.pool.take(self._spot)
                if session is not None and await self._continued(session, decided):
                    return decided
                session = await self._connected()
                await self._transaction(session, decided)
                return decided
        except _Ended as ended:
            result = ended.result
        except Stopped as stopped:
            result = outcome.ours("4.3.2", str(stopped))
        except TimeoutError as fault:  # also aiosmtplib's
            result = _BROKEN_OFF if self._broken_off else self._lost(str(fault) or "the server was too slow")
        except aiosmtplib.SMTPResponseException as fault:
            result = self._judged(Reply(fault.code, str(fault.message)))
        except (aiosmtplib.SMTPException, OSError) as fault:
            result = self._lost(_said(fault))
        except Exception:
            # A fault of ours: what is decided, here and by visits before, must not be forgotten and sent again.
            log.exception("a visit failed", extra={"queue_id": self._parcel.envelope.queue_id, "host": self._door.host})
            fault_of_ours = outcome.ours("4.3.0", "the attempt failed by a fault of this mail system")
            result = msgspec.structs.replace(fault_of_ours, ambiguous=bool(self.dots))
        finally:
            self._tools.visits.discard(self)
            if session is not None:
                self._tools.pool.give(self._spot, session)
        return {r.number: decided.get(r.number, result) for r in self._recipients}

    def break_off(self) -> None:
        """End the visit now, unless it has come to its final dot."""
        if self._timer is not None and not self._timer.expired() and not self.dots:
            self._broken_off = True
            self._timer.reschedule(0.0)

    def record(self, decided: dict[int, Outcome]) -> ExchangerTried:
        """Return what is recorded of this visit."""
        results = [decided[r.number] for r in self._recipients]
        worst = next((o for o in results if not isinstance(o, Delivered)), results[0])
        names = {"Delivered": "delivered", "Deferred": "deferred", "Bounced": "bounced"}
        return ExchangerTried(
            host=self._door.host,
            address=self._door.address,
            recipients=tuple(r.number for r in self._recipients),
            outcome=names[type(worst).__name__],
            code=worst.diagnosis.code,
            enhanced=worst.diagnosis.enhanced,
            text=worst.diagnosis.text,
            phase=worst.diagnosis.phase,
            tls=self._tls,
            tls_verified=self._verified,
            policy=self._door.demand.policy,
            tls_problem=self._tls_problem(),
            dsn=self._dsn,
            milliseconds=round((asyncio.get_running_loop().time() - self._started) * 1000),
        )

    def _tls_problem(self) -> str:
        """Return why TLS is not as it should be: also where nothing enforces it, for whoever looks into it."""
        if not self._door.demand.allows(self._door.host):
            return "the policy does not name this exchanger"  # a policy in testing; else there was no visit
        return "" if self._verified else self._problem

    async def _continued(self, session: Session, decided: dict[int, Outcome]) -> bool:
        """Use a session that was open; False if it was of no more use before anything was decided on it."""
        self._tls, self._verified, self._problem = session.tls, session.tls_verified, session.tls_problem
        try:
            await self._transaction(session, decided)
        except (aiosmtplib.SMTPException, OSError):
            if self.dots or self._phase != "mail":
                raise
        except _Ended as ended:
            if self._phase != "mail" or not (isinstance(ended.result, Deferred) and ended.result.elsewhere):
                raise
        else:
            # Many servers say so, without 421, when they have had enough messages in one session; and some for good.
            if self._phase != "mail" or not any(map(_said_to_mail, decided.values())):
                return True
            session.leave()
        decided.clear()  # at most who does not suit this server: the new session says it again
        session.abort()
        self._tls, self._verified = "", False
        return False

    async def _connected(self) -> Session:
        """Connect, greet and encrypt if the server offers it; in clear only if TLS cannot be had (RFC 7435)."""
        while True:
            session = self._tools.session(self._spot.source)
            try:
                self._phase = "connect"
                await session.dial(self._door.address, self._tools.port, self._spot.source)
                self._phase = "greeting"
                await session.greeting()
                self._phase = "ehlo"
                await session.hello()
                context = self._tools.encryption.context(self._door.host, strict=self._door.demand.enforced)
                if not session.supports_extension("starttls"):
                    self._insecure(session, f"{self._door.host} does not offer STARTTLS")
                    return session
                if context is None:
                    self._insecure(session, self._tools.encryption.problem(self._door.host))
                    return session
                self._phase = "starttls"
                if await self._encrypted(session, context):
                    return session
            except BaseException:
                session.close()
                raise
            session.close()  # one thing less is expected of this host now: connect again

    def _insecure(self, session: Session, why: str) -> None:
        """Note why a session is not verified; where a policy enforces that, the visit is over (RFC 8461 §5)."""
        self._problem = session.tls_problem = why
        demand = self._door.demand
        if demand.enforced:
            said = f"{demand.policy} demands verified TLS, but {why}"
            host, address = self._door.host, self._door.address
            raise _Ended(outcome.lost(said, "starttls", "4.7.5", host=host, address=address))

    async def _encrypted(self, session: Session, context: ssl.SSLContext) -> bool:
        host, encryption = self._door.host, self._tools.encryption
        verifies = encryption.verifies(context)
        try:
            await session.encrypt(host, context)
        except ssl.SSLCertVerificationError as fault:
            why = f"its certificate does not verify: {outcome.clean(fault.verify_message)}"
            self._insecure(session, why)
            encryption.unverifiable(host, why)
            return False
        except (aiosmtplib.SMTPException, OSError) as fault:
            if session.tls and isinstance(fault, aiosmtplib.SMTPResponseException | aiosmtplib.SMTPTimeoutError):
                self._phase, self._tls, self._verified = "ehlo", session.tls, verifies
                self._problem = encryption.problem(host)
                raise  # the handshake came to its end: what became of EHLO says nothing of TLS
            if isinstance(fault, aiosmtplib.SMTPResponseException) and fault.code == 421:
                raise  # RFC 5321 §3.8: the server is closing, which says nothing of its TLS
            why = f"STARTTLS failed: {outcome.clean(_said(fault))}"
            self._insecure(session, why)
            if verifies and not isinstance(fault, aiosmtplib.SMTPResponseException):
                encryption.unverifiable(host, why)  # perhaps only too old: try tolerantly
            else:
                encryption.broken(host, why)
            return False
        session.tls_verified = verifies
        session.tls_problem = "" if verifies else encryption.problem(host)
        self._tls, self._verified, self._problem = session.tls, verifies, session.tls_problem
        return True

    async def _transaction(self, session: Session, decided: dict[int, Outcome]) -> None:
        envelope = self._parcel.envelope
        self._phase = "mail"
        octets, server = len(self._parcel.mail), session.offer
        self._dsn = "dsn" in server.extensions
        recipients, unsuitable = offer.suitable(server, envelope, octets, self._recipients, self._door.host)
        decided.update(unsuitable)
        if not recipients:
            return
        words = [command(b"MAIL", *offer.mail_words(server, envelope, octets, self._recipients))]
        words += [command(b"RCPT", *offer.rcpt_words(server, recipient, path)) for recipient, path in recipients]
        leads = [b"RSET"] if session.spoilt else []
        replies = session.send([*leads, *words, b"DATA"])
        mail, *rcpts, data = replies[len(leads) :]
        try:
            for reset in replies[: len(leads)]:
                if (await reset).code not in ACCEPTED:
                    raise aiosmtplib.SMTPServerDisconnected("the server does not end the last transaction")
            session.spoilt = False
            reply = await mail
            if reply.code not in ACCEPTED:
                decided.update(dict.fromkeys((r.number for r, _ in recipients), self._refused(reply)))
                await session.withdraw([*rcpts, data])
                return
            self._phase = "rcpt"
            accepted: list[int] = []
            for (recipient, _), rcpt in zip(recipients, rcpts, strict=True):
                reply = await rcpt
                if reply.code in ACCEPTED:
                    accepted.append(recipient.number)
                    continue
                decided[recipient.number] = result = self._judged(reply)
                if not session.is_connected:
                    raise _Ended(result)
            if not accepted:
                await session.withdraw([data])  # nothing is sent without a recipient, whatever is said to DATA
                return
            self._phase = "data"
            reply = await data
            if reply.code != 354:
                decided.update(dict.fromkeys(accepted, self._refused(reply)))
                await session.withdraw(())
                return
        except BaseException:
            session.abort()  # replies may still be on their way, or a body be waited for
            raise
        finally:
            for unasked in replies:
                unasked.close()
        reply = await session.content(self._parcel.mail, self._may_finish, self._on_dot)
        decided.update(dict.fromkeys(accepted, self._judged(reply)))

    def _on_dot(self) -> None:
        """From here on the server may have the message: only its own time limit ends the wait for its reply."""
        self._phase = "final"
        self.dots += 1
        if self._timer is not None:
            self._timer.reschedule(None)

    def _refused(self, reply: Reply) -> Outcome:
        """Judge a reply that ends the transaction; the visit is over if it makes no sense or the server is closing."""
        result = self._judged(reply)
        if isinstance(result, Deferred) and result.elsewhere:
            raise _Ended(result)
        return result

    def _judged(self, reply: Reply) -> Outcome:
        where, encrypted = self._door, bool(self._tls)
        return outcome.from_reply(
            reply.code, reply.text, self._phase, host=where.host, address=where.address, encrypted=encrypted
        )

    def _lost(self, what: str) -> Deferred:
        return outcome.lost(
            what,
            self._phase,
            "4.4.1" if self._phase == "connect" else "4.4.2",
            host=self._door.host,
            address=self._door.address,
            ambiguous=self._phase == "final",
        )


def _said_to_mail(result: Outcome) -> bool:
    """Return whether a server has refused MAIL with this; what does not suit its offer is our own word."""
    return isinstance(result, Deferred) or (isinstance(result, Bounced) and result.diagnosis.code != 0)


def _said(fault: Exception) -> str:
    if isinstance(fault, aiosmtplib.SMTPException):
        return str(fault.message)
    return (fault.strerror if isinstance(fault, OSError) else "") or type(fault).__name__
