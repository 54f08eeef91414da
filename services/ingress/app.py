"""Wires ingress: bus, directory, credentials, spool, listeners; and takes it down in good order."""

import asyncio
import gc
import resource
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path

from services.ingress.authentication import Authentication
from services.ingress.connections import Connections
from services.ingress.core.access import IpAddress
from services.ingress.core.commands import ENVELOPE_BYTES
from services.ingress.credentials import Credentials
from services.ingress.crew import supervise
from services.ingress.desk import Desk
from services.ingress.directory import Directory
from services.ingress.examination import examination
from services.ingress.inspection import Inspection, SpamFilter
from services.ingress.journal import Journal, PagedJournal
from services.ingress.listeners import Listeners
from services.ingress.metrics import Metrics
from services.ingress.proof import Proof
from services.ingress.quotas import Quotas
from services.ingress.receipts import Receipts
from services.ingress.reception import Reception
from services.ingress.refusals import Refusals
from services.ingress.settings import IngressSettings
from services.ingress.siblings import Siblings
from services.ingress.sightings import Sightings
from services.ingress.spool import Spool
from services.ingress.usage import Usage
from shared.bus.client import connect
from shared.bus.roll_call import answer_roll_call
from shared.bus.settings import BusSettings, Topology
from shared.contract import subjects
from shared.contract.errors import SettingsFault
from shared.runtime import lifecycle
from shared.runtime.lifecycle import Room
from shared.runtime.server_certificate import Certificate
from shared.runtime.settings import load

ACCEPTED_CAPACITY = 50_000
REFUSED_CAPACITY = 10_000
JOURNAL_WRITERS = 4
SETTLE_SECONDS = 10.0
FAREWELL_SECONDS = 1.0
"""For those who are told 421 when the time for transactions is over."""
COLLECT_AFTER = 20_000
"""Objects made, less those freed, after which the youngest are looked through."""


def main(environ: Mapping[str, str], file: Path | None = None) -> int:
    """Run ingress until it is told to stop; return the exit status."""
    settings = load(IngressSettings, "ingress", environ, file)
    bus_settings = load(BusSettings, "bus", environ, file)
    topology = load(Topology, "topology", environ, file)
    _room_for_a_message(settings)

    _allow_many_connections()

    async def live(room: Room) -> None:
        if settings.processes > 1:
            await supervise(room, settings, environ, file)
            return
        await serve(room, settings, bus_settings, topology)

    return lifecycle.run("ingress", live, lifecycle.health_settings(environ, file))


async def serve(
    room: Room,
    settings: IngressSettings,
    bus_settings: BusSettings,
    topology: Topology,
    opened: Callable[[dict[str, list[str]]], None] = lambda bound: None,
) -> None:
    """Serve until `room.stopping`; `opened` is told where it listens."""
    trusts = _balancers(settings.proxy_networks)
    certificate = Certificate(settings.tls_certificate_file, settings.tls_key_file, "INGRESS")
    room.on_hangup = certificate.refresh
    metrics = Metrics(room.metrics)
    metrics.certificate_expires.set_function(lambda: certificate.expires.timestamp())
    room.ready("durability", False, "not proven yet")
    room.ready("directory", False, "not loaded yet")
    bus = await room.unless_stopped(connect(bus_settings, "ingress"))
    bus.on_connection(lambda there: room.ready("bus", there, "the connection to the bus is lost"))
    credentials = Credentials(settings)
    accepted = PagedJournal(bus, "accepted", ACCEPTED_CAPACITY, subjects.ACCEPTANCES)
    refused = Journal(bus, "refused", REFUSED_CAPACITY, JOURNAL_WRITERS)
    spam_filter = SpamFilter(settings)
    listeners: Listeners | None = None
    try:
        examine = examination(certificate, (accepted, refused), settings)
        await answer_roll_call(bus, room.conditions.failing, examine)
        directory = Directory(bus, credentials.drop)
        proof = Proof(
            bus,
            settings.proof_seconds,
            settings.relaxed_durability,
            lambda holds, why: room.ready("durability", holds, why),
            topology.shards,
            directory.current,
            settings.message_bytes + ENVELOPE_BYTES,
        )
        spool = Spool(bus, proof, settings, topology.shards, lambda well, why: room.ready("store", well, why))
        metrics.in_flight.set_function(lambda: spool.budget.used)
        authentication = Authentication(directory, credentials, metrics, settings)
        quotas = Quotas(bus, settings.quota_share_seconds)
        receipts = Receipts(bus, settings)
        siblings = Siblings(bus, authentication.patience, settings.failed_login_half_life_seconds)
        usage = Usage(bus, directory, metrics, settings.usage_seconds)
        desk = Desk(
            settings=settings,
            certificate=certificate,
            connections=Connections(settings),
            authentication=authentication,
            reception=Reception(
                directory,
                spool,
                accepted,
                metrics,
                settings,
                topology.slots,
                quotas,
                receipts,
                Inspection(settings, spam_filter),
            ),
            refusals=Refusals(refused, settings),
            sightings=Sightings(bus, settings),
            usage=usage,
            proof=proof,
            budget=spool.budget,
            metrics=metrics,
            trusts=trusts,
            tasks=room.tasks,
            log=room.log,
            sessions=set(),
            draining=asyncio.Event(),
            over=asyncio.Event(),
        )
        await room.unless_stopped(directory.start(room.tasks))
        room.ready("directory", True)
        await room.unless_stopped(siblings.start(room.tasks))
        await room.unless_stopped(quotas.start(room.tasks))
        usage.start(room.tasks)
        spool.start(room.tasks)
        room.tasks.create_task(certificate.follow(settings.tls_reload_seconds), name="certificate")
        accepted.start(room.tasks)
        refused.start(room.tasks)
        listeners = Listeners(desk)
        await listeners.open()
        opened(listeners.bound)
        room.tasks.create_task(proof.run(), name="proof")  # only now, for with the proof it is ready
        _spare_the_collector()
        await room.stopping.wait()
        room.ready("accepting", False, "told to stop")
        listeners.close()
        await drain(desk, spool.give_up)
        await asyncio.gather(spool.leave(), siblings.leave(), quotas.leave(), usage.leave())
        for journal in (accepted, refused):
            if not await journal.settle(SETTLE_SECONDS):
                room.log.error("events are left unpublished", extra={"journal": journal.name, "left": journal.waiting})
    finally:
        if listeners is not None:
            listeners.close()
        credentials.close()
        await spam_filter.close()
        await bus.close()


async def drain(desk: Desk, give_up: Callable[[], None]) -> None:
    """Let idle sessions go with 421 and transactions finish, within the time the settings give; then the others go.

    Whose message the bus has not acknowledged by then is told so: without a word of ours nobody would withdraw it.
    """
    desk.draining.set()
    await _left(desk, desk.settings.drain_seconds)
    desk.over.set()
    give_up()
    await _left(desk, FAREWELL_SECONDS)
    for session in list(desk.sessions):
        session.abort()


async def _left(desk: Desk, seconds: float) -> None:
    """Have all sessions look whether they must go; return when they have, or after so many seconds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while desk.sessions and asyncio.get_running_loop().time() < deadline:
        for session in list(desk.sessions):
            session.wake()
        await asyncio.sleep(0.05)


def _allow_many_connections() -> None:
    """Take as many file descriptors as the system allows at most: it often gives 1,024 until asked."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _spare_the_collector() -> None:
    """Let the garbage collector look at sessions and messages seldom, and at what was loaded by now never again.

    Counting references frees nearly everything; a walk over ten thousand idle sessions would hold up all others.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)


def _room_for_a_message(settings: IngressSettings) -> None:
    """Refuse budgets that the largest message could never get, which would be told 452 for ever: `SettingsFault`."""
    for name in ("in_flight_bytes", "in_flight_bytes_per_user"):
        if getattr(settings, name) < settings.message_bytes:
            raise SettingsFault(
                f"POSTLANE_INGRESS_{name.upper()} ({getattr(settings, name)}) is less than the largest message, "
                f"POSTLANE_INGRESS_MESSAGE_BYTES ({settings.message_bytes}): raise the one or lower the other"
            )


def _balancers(networks: tuple[str, ...]) -> Callable[[IpAddress], bool]:
    """Return whether an address is that of a balancer. Raises `SettingsFault`."""
    try:
        parsed = tuple(ip_network(text) for text in networks)
    except ValueError as fault:
        raise SettingsFault(f"POSTLANE_INGRESS_PROXY_NETWORKS: {fault}") from fault
    return lambda address: any(address in network for network in parsed)
