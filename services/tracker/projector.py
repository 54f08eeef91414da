"""Carries events from the streams into the database: batches, each acked after its commit.

Consumers hand out what is new. What they have handed out before, but the database does not have (it was wiped, or put
back from a copy), is read from the streams themselves when the connection is made.
"""

import asyncio
import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.tracker.core.fact import SOURCES, Fact, Source, facts, read
from services.tracker.database import DatabaseAway
from services.tracker.settings import TrackerSettings
from services.tracker.store import Position, Store
from shared.bus.client import Bus
from shared.bus.stored import StreamState
from shared.bus.streams import PullConsumer, Taken
from shared.contract.errors import BusUnavailable
from shared.contract.subjects import ACCEPTANCES
from shared.runtime import clock

log = logging.getLogger("tracker")

CONSUMER = "tracker"
SUBJECTS: dict[Source, str] = {
    "ACCEPTED": ACCEPTANCES,
    "STATUS": "postlane.status.>",
    "REFUSALS": "postlane.refused.>",
}


def condition(source: Source) -> str:
    """Name the condition of readiness that a stream's history has been read and its events are written."""
    return f"{source.lower()} events"


class Projector:
    """Follows the streams; its tasks belong to the room."""

    def __init__(self, bus: Bus, store: Store, settings: TrackerSettings, metrics: CollectorRegistry) -> None:
        self._bus = bus
        self._store = store
        self._settings = settings
        self._settling = asyncio.Lock()
        self._settled_epoch = 0
        self._projected = Counter("postlane_tracker_events", "Events written", ["stream"], registry=metrics)
        self._unknown = Counter("postlane_tracker_unknown_events", "Events of unknown type", registry=metrics)
        self._lag = Gauge("postlane_tracker_lag_seconds", "Age of the last event written", ["stream"], registry=metrics)

    async def follow(self, source: Source, ready: Callable[[str, bool, str], None]) -> None:
        """Project one stream for ever; `ready` is told whether the database and the history are there."""
        consumer = PullConsumer(self._bus, source, CONSUMER)
        what = condition(source)
        while True:
            taken: list[Taken] = []
            try:
                await self._settle()
                ready(what, True, "")
                taken = await consumer.fetch(
                    self._settings.batch, self._settings.batch_bytes, self._settings.wait_seconds
                )
                if not taken:
                    continue
                await self._settle()  # the stream may have begun a new life while we waited
                await self._write([fact for message in taken for fact in _facts(source, message)])
            except (DatabaseAway, BusUnavailable) as fault:
                ready(what, False, str(fault))
                for message in taken:  # nothing of it is written; if this gets lost, the ack wait runs out instead
                    await message.nak(self._settings.retry_seconds)
                await asyncio.sleep(self._settings.retry_seconds)
                continue
            for message in taken:
                await message.ack()
            # A transaction costs far more than a row: under load, what comes meanwhile is written together.
            await asyncio.sleep(self._settings.gather_seconds)

    async def _settle(self) -> None:
        """For each connection, before anything is written over it, see whether the streams are still the same.

        The first time, read what the database lacks; afterwards the consumers hand out all that is missing.
        """
        async with self._settling:
            epoch = self._bus.epoch
            if epoch == self._settled_epoch:
                return
            for source in SOURCES:
                state = await self._bus.stream_state(source)
                position = await self._store.run(self._store.position, source, state.created)
                if position.last_sequence > state.last_sequence:
                    state = await self._bus.stream_state(source)  # a replica may have written what came meanwhile
                if position.last_sequence > state.last_sequence:  # put back from a backup: it counts from there again
                    log.warning("stream %s has gone back to %d", source, state.last_sequence)
                    position = await self._store.run(self._store.go_back, source, position, state.last_sequence)
                if self._settled_epoch == 0 and position.last_sequence < state.last_sequence:
                    await self._catch_up(source, state, position)
            self._settled_epoch = epoch

    async def _catch_up(self, source: Source, state: StreamState, position: Position) -> None:
        start = max(state.first_sequence, position.last_sequence + 1 - self._settings.overlap_records, 1)
        log.info("reading %s from %d to %d", source, start, state.last_sequence, extra={"stream": source})
        batch: list[Fact] = []
        octets = 0
        async for stored in self._bus.scan(source, SUBJECTS[source], start):
            if stored.sequence > state.last_sequence:
                break
            batch += facts(source, stored.sequence, stored.subject, stored.at, stored.payload)
            octets += len(stored.payload)
            if len(batch) >= self._settings.batch or octets >= self._settings.batch_bytes:
                await self._write(batch)
                batch, octets = [], 0
        if batch:
            await self._write(batch)

    async def _write(self, facts: list[Fact]) -> None:
        refused = await self._store.run(self._store.apply, facts)
        for fact in refused:
            log.error("an event cannot be projected; it is kept aside", extra={"subject": fact.subject})
        for fact in facts:
            if read(fact) is None:
                self._unknown.inc()
                log.warning("an event of unknown type is kept as it is", extra={"subject": fact.subject})
        source = facts[0].source
        self._projected.labels(source).inc(len(facts))
        self._lag.labels(source).set(max(0.0, (clock.now() - facts[-1].stored_at).total_seconds()))


def _facts(source: Source, message: Taken) -> list[Fact]:
    return facts(source, message.sequence, message.subject, message.stored_at, message.payload)
