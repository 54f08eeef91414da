"""Sessions kept open between transactions with the same exchanger, for a short while and a bounded number of uses."""

import asyncio
from typing import NamedTuple

from services.delivery.session import Session
from services.delivery.settings import DeliverySettings

REFUSALS_LIMIT = 8
"""Refused commands after which a session is ended in order: some servers slow down or cut one that has ten."""


class Spot(NamedTuple):
    """What a session is good for: this exchanger at this address, from this address of ours ("": any).

    Sessions whose TLS had to be verified are kept apart: mail that demands it never meets another.
    """

    host: str
    address: str
    source: str
    strict: bool = False


class Pool:
    """Takes back sessions after a transaction that ended in order; each is closed when idle, worn or at the end."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._idle_seconds = settings.connection_idle_seconds
        self._messages = settings.connection_messages
        self._most = settings.connections_kept
        self._idle: dict[Spot, list[tuple[Session, asyncio.TimerHandle]]] = {}
        self._kept = 0

    def take(self, spot: Spot) -> Session | None:
        """Return an open session, the one used last, or None."""
        entries = self._idle.get(spot)
        while entries:
            session, timer = entries.pop()
            timer.cancel()
            self._kept -= 1
            if not entries:
                del self._idle[spot]
            if session.reusable:
                return session
            session.leave()
        return None

    def give(self, spot: Spot, session: Session) -> None:
        """Take a session back; it is closed unless another transaction can begin on it."""
        worn = session.transactions >= self._messages or session.refusals >= REFUSALS_LIMIT
        usable = session.reusable and session.transactions > 0 and not worn
        if not usable or self._kept >= self._most or self._idle_seconds <= 0:
            session.leave()
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, spot, session)
        self._idle.setdefault(spot, []).append((session, timer))
        self._kept += 1

    def close(self) -> None:
        """Close every session."""
        for entries in self._idle.values():
            for session, timer in entries:
                timer.cancel()
                session.leave()
        self._idle.clear()
        self._kept = 0

    def _expire(self, spot: Spot, session: Session) -> None:
        entries = self._idle.get(spot, [])
        for number, (kept, _) in enumerate(entries):
            if kept is session:
                del entries[number]
                self._kept -= 1
                break
        if not entries:
            self._idle.pop(spot, None)
        session.leave()
