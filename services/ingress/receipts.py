"""Receipts of submissions that may be repeated, shared by all ingress processes by compare-and-set.

A receipt is written before its message is stored and completed after the PubAck. In between the outcome is unknown to
others, and they say 451; without receipts to look at, they say 451 too, for a second copy is what was not asked for.
"""

import asyncio
import logging
from datetime import datetime, timedelta

import msgspec

from services.ingress.core import repeats
from services.ingress.core.refusal import Refusal
from services.ingress.core.repeats import Claim
from services.ingress.settings import IngressSettings
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.records import Lane
from shared.contract.siblings import Receipt
from shared.mail import reply
from shared.runtime import clock

log = logging.getLogger("ingress")

PATIENCE_SECONDS = 3.0
"""How long a repetition waits for the first submission to become durable before it is told 451."""
LOOK_SECONDS = 0.1
MARGIN = timedelta(seconds=5)
"""Added to the time storing may take, for clocks that differ."""


class Ticket(msgspec.Struct, frozen=True):
    """The right to store a message under this queue ID, until `Receipts.close`."""

    key: str
    revision: int
    receipt: Receipt
    again: bool
    """An earlier submission may have stored it."""


class Receipts:
    """The bucket `receipts`; one per process."""

    def __init__(self, bus: Bus, settings: IngressSettings) -> None:
        """Use the room's connection."""
        self._bucket: Bucket[Receipt] = Bucket(bus, "receipts", Receipt)
        self._window = timedelta(hours=settings.repeat_hours)
        self._busy = timedelta(seconds=settings.store_seconds) + MARGIN

    async def open(self, claim: Claim, queue_id: str, lane: Lane, crowded: bool) -> Ticket | repeats.Done | Refusal:
        """Return a ticket for a first submission, the queue ID for a repetition, or why neither is possible now."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                decided = await self._decide(claim, queue_id, lane, crowded)
            except WrongSequence:
                continue  # a sibling was faster: see what it wrote
            except StoreFull as fault:
                return Refusal(reply.STORE_FULL, f"no receipt of a submission can be stored: {fault}")
            except BusUnavailable as fault:
                return Refusal(reply.LOCAL_FAULT, f"the receipts of repeated submissions cannot be used: {fault}")
            if decided is not None:
                return decided
            if loop.time() >= deadline:
                return Refusal(reply.REPEAT_UNDER_WAY, "the same message is being stored by another session")
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self, ticket: Ticket, *, stored: bool) -> None:
        """Tell what became of the message. If that fails, a repetition stores it again under the same queue ID."""
        completed = msgspec.structs.replace(ticket.receipt, stored=stored, busy_until=None)
        try:
            await self._bucket.update(ticket.key, completed, ticket.revision)
        except (BusUnavailable, StoreFull, WrongSequence) as fault:
            log.warning("a receipt could not be completed: %s", fault, extra={"queue_id": ticket.receipt.queue_id})

    async def _decide(
        self, claim: Claim, queue_id: str, lane: Lane, crowded: bool
    ) -> Ticket | repeats.Done | Refusal | None:
        """Look once; None if the same message is being stored at this moment."""
        now = clock.now()
        entry = await self._bucket.get(claim.key)
        receipt, revision = (entry.record, entry.revision) if entry else (None, 0)
        decided = repeats.verdict(claim, receipt, revision, now, self._window)
        match decided:
            case repeats.Start():
                first = Receipt(queue_id=queue_id, at=now, fingerprint=claim.fingerprint, lane=lane, crowded=crowded)
                return await self._write(claim.key, decided.revision, first, now, again=False)
            case repeats.Resume():
                return await self._write(claim.key, decided.revision, decided.receipt, now, again=True)
            case repeats.UnderWay():
                return None
            case _:
                return decided

    async def _write(self, key: str, revision: int, receipt: Receipt, now: datetime, *, again: bool) -> Ticket:
        busy = msgspec.structs.replace(receipt, busy_until=now + self._busy)
        if revision:
            written = await self._bucket.update(key, busy, revision)
        else:
            written = await self._bucket.create(key, busy)
        return Ticket(key, written, busy, again)
