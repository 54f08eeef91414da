"""One visit to one door: a session, one transaction; its end is a value for each recipient."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

import aiosmtplib
import msgspec

from services.delivery.core import outcome
from services.delivery.core.outcome import Bounced, Deferred, Outcome
from services.delivery.core.route import Door
from services.delivery.encryption import Encryption
from services.delivery.opening import Opening
from services.delivery.parcel import Parcel
from services.delivery.pool import Pool, Spot
from services.delivery.session import MayFinish, Reply, Session, Stopped
from services.delivery.trace import Ended, Trace
from services.delivery.transaction import Transaction
from shared.contract.envelope import Recipient
from shared.contract.events import ExchangerTried

log = logging.getLogger("delivery")

_BROKEN_OFF = outcome.ours("4.3.2", "the attempt was broken off before the final dot, for this worker is being stopped")


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
        self._timer: asyncio.Timeout | None = None
        self._trace = Trace(door)
        self._broken_off = False
        self._source = tools.source(parcel.envelope.configuration, door.address, parcel.pool)
        self._spot = Spot(door.host, door.address, self._source or "", door.demand.enforced)
        self._opening = Opening(self._trace, tools.encryption, lambda: tools.session(self._spot.source))
        self._transaction = Transaction(self._trace, parcel, recipients)

    @property
    def dots(self) -> int:
        """How many final dots were sent."""
        return self._trace.dots

    async def run(self) -> dict[int, Outcome]:
        """Return the outcome of every recipient of this visit."""
        decided: dict[int, Outcome] = {}
        session: Session | None = None
        result: Outcome
        try:
            if self._tools.stopping:
                raise Ended(_BROKEN_OFF)
            if self._source is None:
                said = f"the pool {self._parcel.pool} has no address that reaches {self._door.address}"
                raise Ended(outcome.lost(said, "route", "4.4.4", host=self._door.host, address=self._door.address))
            async with asyncio.timeout_at(self._deadline) as self._timer:
                self._tools.visits.add(self)
                session = self._tools.pool.take(self._spot)
                if session is not None and await self._continued(session, decided):
                    return decided
                session = await self._opening.session(self._tools.port, self._spot.source)
                await self._transact(session, decided)
                return decided
        except Ended as ended:
            result = ended.result
        except Stopped as stopped:
            result = outcome.ours("4.3.2", str(stopped))
        except TimeoutError as fault:  # also aiosmtplib's
            result = _BROKEN_OFF if self._broken_off else self._trace.lost(str(fault) or "the server was too slow")
        except aiosmtplib.SMTPResponseException as fault:
            result = self._trace.judged(Reply(fault.code, str(fault.message)))
        except (aiosmtplib.SMTPException, OSError) as fault:
            result = self._trace.lost(fault)
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
        return self._trace.record(self._recipients, decided)

    async def _continued(self, session: Session, decided: dict[int, Outcome]) -> bool:
        """Use a session that was open; False if it was of no more use before anything was decided on it."""
        trace = self._trace
        trace.take_up(session)
        try:
            await self._transact(session, decided)
        except (aiosmtplib.SMTPException, OSError):
            if trace.dots or trace.phase != "mail":
                raise
        except Ended as ended:
            if trace.phase != "mail" or not (isinstance(ended.result, Deferred) and ended.result.elsewhere):
                raise
        else:
            # Many servers say so, without 421, when they have had enough messages in one session; and some for good.
            if trace.phase != "mail" or not any(map(_said_to_mail, decided.values())):
                return True
            session.leave()
        decided.clear()  # at most who does not suit this server: the new session says it again
        session.abort()
        trace.drop()
        return False

    async def _transact(self, session: Session, decided: dict[int, Outcome]) -> None:
        await self._transaction.run(session, decided, self._may_finish, self._on_dot)

    def _on_dot(self) -> None:
        """From here on the server may have the message: only its own time limit ends the wait for its reply."""
        self._trace.phase = "final"
        self._trace.dots += 1
        if self._timer is not None:
            self._timer.reschedule(None)


def _said_to_mail(result: Outcome) -> bool:
    """Return whether a server has refused MAIL with this; what does not suit its offer is our own word."""
    return isinstance(result, Deferred) or (isinstance(result, Bounced) and result.diagnosis.code != 0)
