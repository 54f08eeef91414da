"""The link to the bus drops everything without a word (B04): it is noticed, clients are told 451, nothing is lost."""

import asyncio
import copy
import time
from pathlib import Path

from shared.bus.kv import Bucket
from shared.contract.envelope import unpack
from shared.contract.siblings import Withdrawal
from tests.bus_server import BusServer
from tests.delivery.house import Tenant, delivering
from tests.delivery.world import made
from tests.detour import Detour
from tests.ingress_process import IngressProcess
from tests.patience import until
from tests.submitters import Log, Submitters, admitted

NOTICED_SECONDS = 40.0
"""Three pings of three seconds, and what a busy machine adds."""
SECONDS = 40.0


def by(server: BusServer, way: Detour) -> BusServer:
    """Return the server as it is reached by a detour."""
    far = copy.copy(server)
    far.url = way.url
    return far


async def stored(server: BusServer) -> dict[str, str]:
    """Return the queue IDs of all fresh mail by recipient."""
    bus = await server.connect("delivery")
    try:
        return {
            carriage.envelope.recipients[0].address: carriage.envelope.queue_id
            for shard in range(server.topology.shards)
            async for each in bus.scan(f"MAIL_{shard}", "postlane.mail.>")
            for carriage, _ in [unpack(each.payload)]
        }
    finally:
        await bus.close()


async def withdrawn(server: BusServer) -> set[str]:
    """Return the queue IDs of what delivery is to leave alone."""
    bus = await server.connect("delivery")
    try:
        bucket: Bucket[Withdrawal] = Bucket(bus, "withdrawn", Withdrawal)
        return {entry.key for entry in await bucket.entries()}
    finally:
        await bus.close()


async def left_alone(server: BusServer, log: Log) -> None:
    """Wait until all that lies there although its client was told 451 is withdrawn."""
    async with asyncio.timeout(SECONDS):
        while True:
            there = await stored(server)
            if {there[address] for address in log.refused.keys() & there.keys()} <= await withdrawn(server):
                return
            await asyncio.sleep(0.1)


async def test_ingress(bus_server: BusServer, tmp_path: Path) -> None:
    """Noticed with the settings of service; 451 until the link is there again, and then 250, by itself."""
    tenant = Tenant(bus_server)
    await tenant.open()
    await admitted(tenant)
    await tenant.close()
    async with Detour(bus_server.port) as way:
        ingress = IngressProcess(by(bus_server, way), tmp_path, store_seconds="2", store_attempt_seconds="1")
        await asyncio.to_thread(ingress.start)
        clients = Submitters(ingress.ports["tls"], f"app@{tenant.domain}", clients=2, pause_seconds=0.02)
        log = clients.log
        try:
            clients.start()
            await until("mail is taken", lambda: len(log.accepted) > 10, SECONDS)
            way.block()
            blocked = time.monotonic()
            noticed = asyncio.create_task(_noticed(ingress))
            await until("a client is told", lambda: bool(log.refused), SECONDS)
            await asyncio.wait_for(noticed, NOTICED_SECONDS)
            opened = time.monotonic()
            way.unblock()
            await until("mail is taken again", lambda: log.first_after(opened) is not None, SECONDS)
            await asyncio.to_thread(clients.stop)
            await left_alone(bus_server, log)
            assert await asyncio.to_thread(ingress.stop) == 0
        finally:
            assert ingress.process is not None
            ingress.process.kill()
    assert log.within(blocked, opened) == []
    assert log.permanent == []
    assert {reply[:3] for reply in (*log.refused.values(), *log.elsewhere)} <= {"451", "421"}
    there = await stored(bus_server)
    assert {address: there.get(address) for address in log.accepted} == log.accepted


async def _noticed(ingress: IngressProcess) -> None:
    """Wait until ingress says that its connection is lost, not only that nothing is stored."""
    while "bus" not in await asyncio.to_thread(ingress.waiting_for):
        await asyncio.sleep(0.1)


async def test_delivery(bus_server: BusServer, tmp_path: Path) -> None:
    """What lies there is delivered once the link is there again, and nothing twice."""
    async with (
        made(bus_server, tmp_path) as world,
        Detour(bus_server.port) as way,
        delivering(by(bus_server, way), world.settings()) as room,
    ):
        await world.tenant.accept("before@rcpt.test")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 1)
        way.block()
        for number in range(5):
            await world.tenant.accept(f"meanwhile{number}@rcpt.test")
        await until("it notices", lambda: "bus" in room.conditions.failing, SECONDS)
        assert len(world.exchanger.received) == 1
        way.unblock()
        await world.exchanger.until(lambda: len(world.exchanger.received) == 6, SECONDS)
        await world.watcher.until_empty(SECONDS)
        assert len(world.exchanger.received) == 6
