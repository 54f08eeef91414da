"""Leases on messages: each is ours from its pull until it is acked or given back, if it is extended in time.

The server hands a message to somebody else when a lease has run out. So an extension counts only if the server has
certainly received it, and whoever is about to send a final dot asks first.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from shared.bus.client import Bus
from shared.bus.streams import Taken
from shared.contract.subjects import parse_place
from shared.runtime import clock

EXTEND_SECONDS = 10.0
"""Interval at which leases are extended; the consumers' ack wait is three times that."""
AWAY_SECONDS = 5.0
"""How long a message that cannot be worked on now is given back for."""
PAUSE_SECONDS = 5.0
"""If the wall's clock moved by more than that against the loop's, a lease is uncertain until it is extended."""


class Lease:
    """One message in our hands."""

    __slots__ = ("_extended_at", "_leases", "_pace", "_past_dot", "_taken", "configuration", "ended", "received_at")

    def __init__(self, leases: "Leases", taken: Taken, asked_at: float) -> None:
        self._leases = leases
        self._taken = taken
        self._extended_at = asked_at
        self._pace = leases.pace()
        place = parse_place(taken.subject)
        self.configuration = place.configuration if place is not None else ""
        self.received_at = leases.now()
        """By the loop's clock."""
        self.ended = False
        self._past_dot = False

    @property
    def subject(self) -> str:
        """Where it lay."""
        return self._taken.subject

    @property
    def payload(self) -> bytes:
        """Carriage and mail."""
        return self._taken.payload

    @property
    def sequence(self) -> int:
        """Its sequence in its stream."""
        return self._taken.sequence

    @property
    def stored_at(self) -> datetime:
        """When its stream took it, by the server's clock."""
        return self._taken.stored_at

    @property
    def deliveries(self) -> int:
        """How often the server has handed it out, as far as the server knows."""
        return self._taken.deliveries

    @property
    def past_dot(self) -> bool:
        """The final dot may have been sent: from now on only the transaction's own end decides."""
        return self._past_dot

    async def ack(self) -> None:
        """Let it go."""
        self._leases.end(self)
        await self._taken.ack()

    async def give_back(self, delay_seconds: float) -> None:
        """Return it, to be offered again after a delay."""
        self._leases.end(self)
        await self._taken.nak(delay_seconds)

    def may_finish(self) -> bool:
        """Whether it is proven fresh enough that nobody else can have the message before the dot is answered."""
        paused = abs(self._leases.pace() - self._pace) > PAUSE_SECONDS
        fresh = self._leases.now() - self._extended_at < self._leases.certain_seconds
        certain = fresh and not paused and not self._leases.cut
        self._past_dot = self._past_dot or certain
        return certain

    async def extend(self) -> bool:
        """Ask the server to wait longer for the ack; False if that could not even be sent."""
        return await self._taken.in_progress()

    def extended(self, at: float) -> None:
        """Note that the server has received an extension sent at `at`."""
        self._extended_at = at
        self._pace = self._leases.pace()


class Leases:
    """All leases of a worker."""

    def __init__(self, bus: Bus, certain_seconds: float, on_end: Callable[[], None]) -> None:
        """Leases count as certain for so long after an extension; `on_end` is called whenever one has ended."""
        self._bus = bus
        self._on_end = on_end
        self._open: set[Lease] = set()
        self.certain_seconds = certain_seconds
        self.cut = False
        """No final dot may be sent any more: the time for draining is over."""
        self.octets = 0
        """Size of all messages in hand."""

    def now(self) -> float:
        """Return the loop's clock."""
        return asyncio.get_running_loop().time()

    def pace(self) -> float:
        """Return by how much the loop's clock is behind the wall's: it stands still while the machine is suspended."""
        return clock.now_ms() / 1000 - self.now()

    def begin(self, pulled: list[Taken], asked_at: float) -> list[Lease]:
        """Lease what was pulled; the server cannot have handed it out before it was asked for."""
        new = [Lease(self, taken, asked_at) for taken in pulled]
        self._open.update(new)
        self.octets += sum(len(lease.payload) for lease in new)
        return new

    def end(self, lease: Lease) -> None:
        """Forget a message that is acked or given back; harmless if it was before."""
        if lease.ended:
            return
        lease.ended = True
        self._open.discard(lease)
        self.octets -= len(lease.payload)
        self._on_end()

    async def extend(self, leases: list[Lease] | None = None) -> None:
        """Extend these leases, or all; an extension counts only when the server has certainly received it."""
        at, epoch = self.now(), self._bus.epoch
        sent = [lease for lease in (list(self._open) if leases is None else leases) if await lease.extend()]
        # What was sent on a connection that was lost meanwhile need not have been received.
        if sent and await self._bus.reached() and self._bus.epoch == epoch:
            for lease in sent:
                lease.extended(at)
