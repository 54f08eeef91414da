"""Wires delivery: settings, bus, snapshots, worker, reviews, queue service; drains when told to stop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from uuid import uuid4

from services.delivery.announcements import Announcements
from services.delivery.attempts import Attempts
from services.delivery.captures import Captures
from services.delivery.carrier import Carrier
from services.delivery.commit import Commits
from services.delivery.consequences import Consequences
from services.delivery.courier import Courier
from services.delivery.destinations import Destinations
from services.delivery.dispatch import Dispatch
from services.delivery.examination import examination, quarantine
from services.delivery.exchangers import Exchangers
from services.delivery.gates import Gates
from services.delivery.holds import Holds
from services.delivery.intents import Intents
from services.delivery.leftovers import Leftovers
from services.delivery.metrics import Metrics
from services.delivery.notices import Notices
from services.delivery.policies import Policies
from services.delivery.queue import Queue
from services.delivery.reports import Reports
from services.delivery.settings import DeliverySettings
from services.delivery.signer import Signer
from services.delivery.suppressions import Suppressions
from services.delivery.sweep import Sweep
from services.delivery.worker import Worker
from shared.bus import service
from shared.bus.client import Bus, connect
from shared.bus.replica import Replica
from shared.bus.roll_call import answer_roll_call
from shared.bus.settings import BusSettings, Topology
from shared.contract.errors import SettingsFault
from shared.contract.records import DkimKey
from shared.contract.requests import (
    QUEUE_ACT,
    QUEUE_LIST,
    SUPPRESSION_ADD,
    SUPPRESSION_REMOVE,
    AddSuppression,
    ListQueue,
    QueueAction,
    RemoveSuppression,
)
from shared.runtime.lifecycle import Room, health_settings, run
from shared.runtime.sealing import read_master_key
from shared.runtime.settings import load


def main(environ: Mapping[str, str], file: Path | None = None) -> int:
    """Run delivery until it is told to stop; return the exit status."""
    settings = load(DeliverySettings, "delivery", environ, file)
    bus_settings = load(BusSettings, "bus", environ, file)
    topology = load(Topology, "topology", environ, file)
    return run("delivery", room(settings, bus_settings, topology), health_settings(environ, file))


def room(
    settings: DeliverySettings, bus_settings: BusSettings, topology: Topology
) -> Callable[[Room], Awaitable[None]]:
    """Return the room's main."""

    async def live(here: Room) -> None:
        here.ready("snapshot", False, "directory, standing and keys are not read yet")
        master_key = await asyncio.to_thread(_master_key, settings.master_key_file)
        bus = await here.unless_stopped(connect(bus_settings, "delivery"))
        try:
            await _serve(here, settings, topology, bus, master_key)
        finally:
            await bus.close()

    return live


def _master_key(file: Path) -> bytes:
    try:
        return read_master_key(file)
    except OSError as fault:
        raise SettingsFault(
            f"POSTLANE_DELIVERY_MASTER_KEY_FILE: cannot read {file}: {fault.strerror}; it must be control's master key"
        ) from fault


async def _serve(here: Room, settings: DeliverySettings, topology: Topology, bus: Bus, master_key: bytes) -> None:
    bus.on_connection(lambda up: here.ready("bus", up, "the bus cannot be reached"))
    metrics = Metrics(here.metrics)
    gates = Gates(bus)
    keys: Replica[DkimKey] = Replica(bus, "keys", DkimKey)
    suppressions = Suppressions(bus, settings.suppress_bounces)
    worker: Worker | None = None

    def patient() -> bool:
        return not bus.closed and (worker is None or not worker.leases.cut)

    commits = Commits(bus, patient)
    name = uuid4().hex
    intents = Intents(bus, commits, name)
    courier, exchangers = Courier(settings), Exchangers(settings)
    policies = Policies(settings, bus, exchangers)
    destinations = Destinations(settings, bus, name)
    examined = examination(settings, exchangers, courier), quarantine(bus, topology.shards)
    await answer_roll_call(bus, here.conditions.failing, *examined)
    carrier = Carrier(
        settings=settings,
        bus=bus,
        gates=gates,
        attempts=Attempts(
            gates,
            Signer(keys, master_key, gates),
            Dispatch(settings, exchangers, courier, policies, destinations),
            suppressions,
            Captures(bus),
            intents,
        ),
        consequences=Consequences(suppressions, Reports(settings, commits, gates, topology.shards)),
        metrics=metrics,
        commits=commits,
        announcements=Announcements(gates, commits, intents),
        intents=intents,
    )
    holds = Holds(settings, topology.shards, bus, gates, commits, metrics)
    for replica in (gates.directory, gates.standing, gates.withdrawn, keys, suppressions.replica, policies.replica):
        await here.unless_stopped(replica.start(here.tasks))
    await here.unless_stopped(destinations.start(here.tasks))
    queue = Queue(settings, topology.shards, bus, gates, commits, holds)
    answering = await service.serve(
        bus,
        "delivery",
        "Queue operations and suppressions",
        {
            QUEUE_LIST: (ListQueue, queue.list),
            QUEUE_ACT: (QueueAction, queue.act),
            SUPPRESSION_ADD: (AddSuppression, suppressions.enter),
            SUPPRESSION_REMOVE: (RemoveSuppression, suppressions.remove),
        },
    )
    here.ready("snapshot", True)  # whoever sees it ready may ask
    worker = Worker(settings, topology, bus, carrier, metrics, courier.break_off)
    worker.start(here.tasks)
    reviews = (
        here.tasks.create_task(holds.run(), name="holds"),
        here.tasks.create_task(Sweep(settings, topology.shards, bus, commits, metrics).run(), name="sweep"),
        here.tasks.create_task(Notices(settings, topology, bus, gates, commits, metrics).run(), name="notices"),
        here.tasks.create_task(intents.run(), name="intents"),
        here.tasks.create_task(Leftovers(settings, topology, bus, commits, metrics).run(), name="leftovers"),
    )
    await here.stopping.wait()
    here.ready("open", False, "the room is draining")
    for review in reviews:
        review.cancel()
    await answering.close()
    await worker.drain()
    await intents.leave()
    await destinations.leave()
    courier.close()
