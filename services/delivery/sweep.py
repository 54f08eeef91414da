"""Finds schedules that should have fired and did not, or that no wait can have led to, and stores them again.

A schedule that falls due while the store is full stays where it is until the server restarts; nobody else would ever
look at that message again. One that was set while the clock was a year ahead would be looked at in a year.
"""

import asyncio
import logging
from datetime import timedelta

from services.delivery.commit import STATUS, Commits
from services.delivery.core import retry
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.drift import drift
from shared.bus.stored import Stored
from shared.contract import subjects
from shared.contract.envelope import Undecodable, unpack
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.subjects import parse_place
from shared.runtime import clock

log = logging.getLogger("delivery")


class Sweep:
    """Walks through the scheduled messages of each shard, a bounded number per turn, and starts over at the end."""

    def __init__(self, settings: DeliverySettings, shards: int, bus: Bus, commits: Commits, metrics: Metrics) -> None:
        self._settings = settings
        self._bus = bus
        self._commits = commits
        self._metrics = metrics
        self._cursors = dict.fromkeys(range(shards), 1)

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            for shard in self._cursors:
                try:
                    await self.watch(shard)
                    await self.sweep(shard)
                except (BusUnavailable, StoreFull) as fault:
                    log.warning("overdue messages could not be looked for: %s", fault)

    async def watch(self, shard: int) -> None:
        """Alarm if the streams of a shard were changed so that they may lose mail, or `STATUS` to lose commits."""
        for stream in (subjects.mail_stream(shard), subjects.retry_stream(shard), STATUS):
            state = await self._bus.stream_state(stream)
            if why := drift(state.config, self._bus.replicas, queue=stream != STATUS):
                self._metrics.alarms.labels("stream-changed").inc()
                log.error(why)

    async def sweep(self, shard: int) -> int:
        """Look at the next messages of a shard; return how many were overdue and stored again.

        Errors: `BusUnavailable`, `StoreFull`.
        """
        looked, repeated = 0, 0
        async for stored in self._bus.scan(*subjects.pattern(shard), self._cursors[shard]):
            self._cursors[shard] = stored.sequence + 1
            looked += 1
            if stored.subject.split(".")[3] != "due" and await self._repeated(stored):
                repeated += 1
            if looked >= self._settings.sweep_messages:
                return repeated
        self._cursors[shard] = 1
        return repeated

    async def _repeated(self, stored: Stored) -> bool:
        place = parse_place(stored.subject)
        try:
            carriage, mail = unpack(stored.payload)
        except Undecodable:
            return False  # it goes to quarantine when it falls due
        due_at, now = carriage.progress.due_at, clock.now()
        if place is None or due_at is None:
            return False
        # One that was stored anew a moment ago, perhaps by ourselves, has not had its time to fire.
        since = max(due_at, stored.at) if stored.at <= now else due_at
        overdue = now - since >= timedelta(seconds=self._settings.overdue_seconds)
        astray = stored.subject == place.later and retry.too_far(due_at, self._settings.schedule, now)
        if not overdue and not astray:
            return False
        if not await self._commits.reschedule(stored, place, carriage, mail, now):
            return False
        self._metrics.alarms.labels("overdue" if overdue else "astray").inc()
        log.warning(
            "a schedule had not fired and is repeated" if overdue else "a schedule was far too late and is due now",
            extra={"queue_id": place.queue_id},
        )
        return True
