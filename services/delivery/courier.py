"""One attempt at one destination: visits the doors of its exchangers until every recipient is decided.

After the final dot without a reply the outcome is ambiguous and no other door is tried.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from services.delivery.core.outcome import Deferred, Delivered, Outcome
from services.delivery.core.route import TRIES_LIMIT, Door
from services.delivery.encryption import Encryption
from services.delivery.parcel import Parcel
from services.delivery.pool import Pool
from services.delivery.session import Limits, MayFinish, Session
from services.delivery.settings import DeliverySettings
from services.delivery.visit import Visit
from shared.contract.envelope import Recipient
from shared.contract.events import ExchangerTried

RECIPIENTS_LIMIT = 100
"""Recipients of one transaction: every server must take that many (RFC 5321 §4.5.3.1.8)."""


class Visits(msgspec.Struct, kw_only=True):
    """The result of an attempt at one destination, filled in as it goes: outcomes by recipient number."""

    outcomes: dict[int, Outcome] = {}
    tried: list[ExchangerTried] = []
    dots: int = 0
    """Final dots sent."""


class Courier:
    """Makes attempts; keeps connections open for a while between them. Closed by its owner."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._settings = settings
        self._limits = Limits(
            settings.connect_timeout_seconds,
            settings.command_timeout_seconds,
            settings.data_write_timeout_seconds,
            settings.final_reply_timeout_seconds,
        )
        self.pool = Pool(settings)
        self.encryption = Encryption()
        self.port = settings.mx_port
        self._egress = settings.egress
        self.visits: set[Visit] = set()
        self.stopping = False

    def close(self) -> None:
        """Close the connections kept open."""
        self.pool.close()

    def break_off(self) -> None:
        """End all that has not come to a final dot, so that what the rest of its message came to can be committed."""
        self.stopping = True
        for visit in tuple(self.visits):
            visit.break_off()

    async def attempt(
        self,
        parcel: Parcel,
        recipients: Sequence[Recipient],
        doors: AsyncIterator[Door],
        may_finish: MayFinish,
    ) -> Visits:
        """Try the doors in order until every recipient is decided or no door helps.

        Never raises for what the network does; a cancellation leaves no dot unsent and unrecorded in `Visits.dots`.
        """
        visits = Visits(outcomes={}, tried=[])
        remaining = {r.number: r for r in recipients}
        deadline = asyncio.get_running_loop().time() + self._settings.attempt_timeout_seconds
        tries = 0
        async for door in doors:
            tries += 1
            while remaining:
                batch = list(remaining.values())[:RECIPIENTS_LIMIT]
                decided = await self._visit(door, parcel, batch, visits, may_finish, deadline)
                visits.outcomes.update(decided)
                progress = any(isinstance(result, Delivered) for result in decided.values())
                remaining = {
                    number: r
                    for number, r in remaining.items()
                    if number not in decided
                    or _again(decided[number])
                    or (progress and _in_another_transaction(decided[number]))
                }
                if any(_again(result) for result in decided.values()):
                    break  # this door did not do for everybody; the next one may
            if not remaining or tries >= TRIES_LIMIT or asyncio.get_running_loop().time() >= deadline:
                break
        return visits

    async def _visit(
        self,
        door: Door,
        parcel: Parcel,
        recipients: Sequence[Recipient],
        visits: Visits,
        may_finish: MayFinish,
        deadline: float,
    ) -> dict[int, Outcome]:
        visit = Visit(self, door, parcel, recipients, may_finish, deadline)
        decided = await visit.run()
        visits.dots += visit.dots
        visits.tried.append(visit.record(decided))
        return decided

    def source(self, configuration: str, address: str, pool: str = "") -> str | None:
        """Return our address for a configuration towards an address, "" for any, None if its pool has none for it."""
        return self._egress.source(configuration, pool, address)

    def session(self, source: str = "") -> Session:
        """Return a new session, not yet connected, that will come from one of our addresses."""
        return Session(self._egress.name(source, self._settings.ehlo_name), self._limits)


def _again(result: Outcome) -> bool:
    return isinstance(result, Deferred) and result.elsewhere


def _in_another_transaction(result: Outcome) -> bool:
    """Return whether the server only had enough recipients for one transaction (RFC 5321 §4.5.3.1.10)."""
    return isinstance(result, Deferred) and (result.diagnosis.phase, result.diagnosis.enhanced) == ("rcpt", "4.5.3")
