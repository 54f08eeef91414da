"""The trace of a visit: how far it came, under which TLS, and what replies and failures at that point mean."""

import asyncio
from collections.abc import Sequence

import aiosmtplib

from services.delivery.core import outcome
from services.delivery.core.outcome import Deferred, Delivered, Outcome, Phase
from services.delivery.core.route import Door
from services.delivery.session import Reply, Session
from shared.contract.envelope import Recipient
from shared.contract.events import ExchangerTried

ACCEPTED = range(250, 260)
"""Of a server that does what was asked, with whatever third digit (RFC 5321 §4.2.1)."""

_OUTCOMES = {"Delivered": "delivered", "Deferred": "deferred", "Bounced": "bounced"}


class Ended(Exception):
    """A visit is over for all recipients it has not decided."""

    def __init__(self, result: Outcome) -> None:
        self.result = result


class Trace:
    """Kept by a visit from its beginning; whoever speaks with the server notes here where the conversation is."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.phase: Phase = "connect"
        self.tls = ""
        self.verified = False
        self.problem = ""
        """Why TLS is not verified, as a clause."""
        self.dsn = False
        self.dots = 0
        """Final dots sent: from the first on, the server may have the message."""
        self._started = asyncio.get_running_loop().time()

    def take_up(self, session: Session) -> None:
        """Note the encryption of a session the visit goes on with."""
        self.tls, self.verified, self.problem = session.tls, session.tls_verified, session.tls_problem

    def drop(self) -> None:
        """Note that the session was of no use: the next one encrypts anew."""
        self.tls, self.verified = "", False

    def judged(self, reply: Reply) -> Outcome:
        """Return what a reply means where the conversation is."""
        where, encrypted = self.door, bool(self.tls)
        return outcome.from_reply(
            reply.code, reply.text, self.phase, host=where.host, address=where.address, encrypted=encrypted
        )

    def refused(self, reply: Reply) -> Outcome:
        """Judge a reply that ends the transaction.

        Raises `Ended` if it makes no sense or the server is closing: nothing more can be had here.
        """
        result = self.judged(reply)
        if isinstance(result, Deferred) and result.elsewhere:
            raise Ended(result)
        return result

    def lost(self, fault: Exception | str) -> Deferred:
        """Return what a connection that failed means where the conversation was."""
        return outcome.lost(
            fault if isinstance(fault, str) else said(fault),
            self.phase,
            "4.4.1" if self.phase == "connect" else "4.4.2",
            host=self.door.host,
            address=self.door.address,
            ambiguous=self.phase == "final",
        )

    def record(self, recipients: Sequence[Recipient], decided: dict[int, Outcome]) -> ExchangerTried:
        """Return what is recorded of the visit."""
        results = [decided[r.number] for r in recipients]
        worst = next((o for o in results if not isinstance(o, Delivered)), results[0])
        return ExchangerTried(
            host=self.door.host,
            address=self.door.address,
            recipients=tuple(r.number for r in recipients),
            outcome=_OUTCOMES[type(worst).__name__],
            code=worst.diagnosis.code,
            enhanced=worst.diagnosis.enhanced,
            text=worst.diagnosis.text,
            phase=worst.diagnosis.phase,
            tls=self.tls,
            tls_verified=self.verified,
            policy=self.door.demand.policy,
            tls_problem=self._tls_problem(),
            dsn=self.dsn,
            milliseconds=round((asyncio.get_running_loop().time() - self._started) * 1000),
        )

    def _tls_problem(self) -> str:
        """Return why TLS is not as it should be: also where nothing enforces it, for whoever looks into it."""
        if not self.door.demand.allows(self.door.host):
            return "the policy does not name this exchanger"  # a policy in testing; else there was no visit
        return "" if self.verified else self.problem


def said(fault: Exception) -> str:
    """Return what a failed connection says of itself."""
    if isinstance(fault, aiosmtplib.SMTPException):
        return str(fault.message)
    return (fault.strerror if isinstance(fault, OSError) else "") or type(fault).__name__
