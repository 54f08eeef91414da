"""Wires the tracker: database, projection of three streams, audit, queries."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from prometheus_client import Gauge

from services.tracker.auditor import Auditor
from services.tracker.core.fact import SOURCES
from services.tracker.database import DatabaseAway
from services.tracker.examination import examination
from services.tracker.projector import Projector, condition
from services.tracker.queries import Queries
from services.tracker.reading import Reading
from services.tracker.settings import TrackerSettings
from services.tracker.store import Store
from shared.bus.client import connect
from shared.bus.replica import Replica
from shared.bus.roll_call import answer_roll_call
from shared.bus.service import serve
from shared.bus.settings import BusSettings, Topology
from shared.contract.standing import Standing
from shared.runtime import clock
from shared.runtime.lifecycle import Room, health_settings, run
from shared.runtime.settings import load

COUNT_INTERVAL_SECONDS = 15
FORGET_INTERVAL_SECONDS = 600
FORGET_BATCH = 1000


def main(environ: Mapping[str, str], file: Path | None = None) -> int:
    """Run the tracker; return the exit status."""
    settings = load(TrackerSettings, "tracker", environ, file)
    bus_settings = load(BusSettings, "bus", environ, file)
    topology = load(Topology, "topology", environ, file)

    async def remember(room: Room) -> None:
        await track(room, settings, bus_settings, topology)

    return run("tracker", remember, health_settings(environ, file))


async def track(room: Room, settings: TrackerSettings, bus_settings: BusSettings, topology: Topology) -> None:
    """Project and answer until the room is told to stop."""
    room.ready("database", False, "it is being opened")
    room.ready("bus", False, "not connected yet")
    for source in SOURCES:
        room.ready(condition(source), False, "history is not read yet")
    store = Store(settings.database_url)
    try:
        await room.unless_stopped(_prepared(room, store, settings))
        bus = await room.unless_stopped(connect(bus_settings, "tracker"))
        bus.on_connection(lambda up: room.ready("bus", up, "the connection is lost"))
        try:
            standing: Replica[Standing] = Replica(bus, "standing", Standing)
            await room.unless_stopped(standing.start(room.tasks))
            auditor = Auditor(bus, store, settings, topology.shards, room.metrics)
            await answer_roll_call(bus, room.conditions.failing, examination(auditor, settings))
            queries = Queries(store, standing.get, auditor.missing_since)
            service = await serve(bus, "tracker", "What happened to a message", queries.endpoints())
            projector = Projector(bus, store, settings, room.metrics)
            running = [
                room.tasks.create_task(projector.follow(source, room.ready), name=f"follow {source}")
                for source in SOURCES
            ]
            running.append(room.tasks.create_task(_count(room, store), name="count"))
            running.append(room.tasks.create_task(auditor.run(), name="audit"))
            running.append(room.tasks.create_task(_forget(room, store, settings), name="forget"))
            await room.stopping.wait()
            for task in running:
                task.cancel()
            await service.close()
        finally:
            await bus.close()
    finally:
        store.close()


async def _prepared(room: Room, store: Store, settings: TrackerSettings) -> None:
    """Make the tables, waiting for a database that is not there yet."""
    while True:
        try:
            await store.run(store.prepare)
        except DatabaseAway as fault:
            room.ready("database", False, str(fault))
            await asyncio.sleep(settings.retry_seconds)
        else:
            room.ready("database", True)
            return


async def _count(room: Room, store: Store) -> None:
    """Keep the gauges of unfinished messages up to date."""
    gauge = Gauge("postlane_tracker_messages", "Messages not finished", ["status"], registry=room.metrics)
    reading = Reading(store)
    while True:
        try:
            for status, count in (await store.run(reading.open_messages)).items():
                gauge.labels(status).set(count)
        except DatabaseAway as fault:
            room.log.warning("messages are not counted for now: %s", fault)
        await asyncio.sleep(COUNT_INTERVAL_SECONDS)


async def _forget(room: Room, store: Store, settings: TrackerSettings) -> None:
    """Remove what is older than the retention, a little at a time."""
    while settings.retention_days:
        before = clock.now() - timedelta(days=settings.retention_days)
        try:
            while gone := await store.run(store.forget, before, FORGET_BATCH):
                room.log.info("forgot finished messages", extra={"messages": gone})
        except DatabaseAway as fault:
            room.log.warning("old messages stay for now: %s", fault)
        await asyncio.sleep(FORGET_INTERVAL_SECONDS)
