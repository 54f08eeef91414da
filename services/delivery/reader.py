"""Mail that cannot be read: of a later version it waits for one that can, anything else goes to quarantine."""

import logging
from datetime import timedelta

from services.delivery.commit import Commits
from services.delivery.leases import AWAY_SECONDS, Lease
from services.delivery.message import Message, opened
from services.delivery.metrics import Metrics
from shared.contract.envelope import LaterVersion, Undecodable
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.subjects import Place, parse_place
from shared.mail.ids import parse_queue_id, queue_id_time_ms
from shared.runtime import clock

log = logging.getLogger("delivery")

UNREADABLE_SECONDS = 300.0
"""How long what cannot be read, of a message or about it, waits before it is looked at again."""


class Reader:
    """Reads messages, and puts aside those it cannot read."""

    def __init__(self, commits: Commits, metrics: Metrics, lifetime_seconds: float) -> None:
        self._commits = commits
        self._metrics = metrics
        self._lifetime_seconds = lifetime_seconds

    async def read(self, lease: Lease) -> Message | None:
        """Return the message of a lease, or None: then it was put aside, or given back as the bus is away."""
        try:
            return opened(lease)
        except LaterVersion as fault:
            await self._leave(lease, str(fault))
        except Undecodable as fault:
            await self._quarantine(lease, str(fault))
        return None

    async def _leave(self, lease: Lease, why: str) -> None:
        """Let a message of a later version wait for one, for as long as mail is tried at all."""
        place, now = parse_place(lease.subject), clock.now()
        queue_id = parse_queue_id(place.queue_id) if place is not None else None
        age = now.timestamp() - (queue_id_time_ms(queue_id) / 1000 if queue_id is not None else 0)
        if place is None or age > self._lifetime_seconds:
            await self._quarantine(lease, why)
            return
        self._metrics.alarms.labels("later-version").inc()
        log.error("not touched, it is of a later version: %s", why, extra={"queue_id": place.queue_id})
        try:
            await self._commits.put_unread(place, lease.payload, now + timedelta(seconds=UNREADABLE_SECONDS))
        except (BusUnavailable, StoreFull):
            await lease.give_back(AWAY_SECONDS)
            return
        await lease.ack()

    async def _quarantine(self, lease: Lease, why: str) -> None:
        parts = lease.subject.split(".")
        place = Place(int(parts[2]) if parts[2].isdigit() else 0, "", 0, "", parts[-1])
        self._metrics.alarms.labels("quarantine").inc()
        log.error("a message cannot be read and goes to quarantine: %s", why, extra={"subject": lease.subject})
        try:
            await self._commits.quarantine(place, lease.payload)
        except (BusUnavailable, StoreFull):
            await lease.give_back(AWAY_SECONDS)
            return
        await lease.ack()
