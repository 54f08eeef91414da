"""What one tenant's flood does to another: B's time from accept to delivered, alone and while A floods.

Run: `python -m benchmarks.noisy_neighbour --messages 10000`. Starts its own nats-server, one delivery worker with
settings as in service, and mail exchangers on loopback. Half of A's mail goes to a destination that takes connections
and never greets, half to one that takes a second for each reply. B, in the same slot, sends a steady trickle to a
healthy one. Tells how far it is on stderr and prints one JSON object; times in milliseconds.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.smtp_load import machine
from services.ingress.core.crowding import Crowding
from services.ingress.settings import IngressSettings
from shared.bus.settings import Topology
from shared.contract.subjects import slot_of
from tests.bus_server import BusServer
from tests.delivery.exchanger import Exchanger, Received
from tests.delivery.house import Tenant
from tests.delivery.world import World, made

TOPOLOGY = Topology(mail_bytes=1 << 28)
STORING = 32
SLOW_SECONDS = 1.0
DNS_SECONDS = 60
"""How long DNS answers hold: short as mail domains go."""


async def measure(flood: int, trickle: int, pause_seconds: float) -> dict[str, Any]:
    """Measure B alone, begin the flood, and measure B again in its midst."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "nats").mkdir()
        server = BusServer(Path(place) / "nats", TOPOLOGY)
        await asyncio.to_thread(server.start)
        await server.provision()
        try:
            async with made(server, Path(place)) as world, _bad_destinations(world), _worker(world):
                await _times(world, 20, 0.05, "warm")
                report: dict[str, Any] = {
                    "machine": machine(),
                    "alone": await _times(world, trickle, pause_seconds, "a"),
                }
                noisy = await _neighbour(world)
                began = time.monotonic()
                await _flood(noisy, flood)
                report["flooded"] = {"messages": flood, "stored_in_seconds": round(time.monotonic() - began, 1)}
                report["during"] = await _times(world, trickle, pause_seconds, "d")
                left = [subject for subject in await world.watcher.queued() if noisy.configuration in subject]
                report["of_the_flood_still_queued"] = len(left)
                report["p99_ratio"] = round(report["during"]["p99"] / report["alone"]["p99"], 2)
                await noisy.close()
                return report
        finally:
            server.stop()


@asynccontextmanager
async def _bad_destinations(world: World) -> AsyncIterator[None]:
    """Serve `dead.test`, which never greets, and `slow.test`, which thinks about every reply."""
    world.dns.ttl = DNS_SECONDS
    async with (
        await Exchanger().start("127.0.0.2", world.exchanger.port) as dead,
        await Exchanger().start("127.0.0.3", world.exchanger.port) as slow,
    ):
        dead.script["GREETING"] = [(3600.0,)]
        for verb, reply in (("MAIL", b"250 ok\r\n"), ("RCPT", b"250 ok\r\n"), ("DATA", b"354 go\r\n")):
            slow.script[verb] = [(SLOW_SECONDS, reply)]
        for name, address in (("dead.test", "127.0.0.2"), ("slow.test", "127.0.0.3")):
            world.dns.set(name, "MX", f"10 mx.{name}.")
            world.dns.set(f"mx.{name}", "A", address)
        yield


@asynccontextmanager
async def _worker(world: World) -> AsyncIterator[None]:
    worker = await asyncio.to_thread(world.process, quiet=True)
    try:
        yield
    finally:
        worker.terminate()
        await asyncio.to_thread(worker.wait, 60)


async def _neighbour(world: World) -> Tenant:
    """Return a tenant whose mail shares a slot with the world's."""
    slots = world.server.topology.slots
    ours = slot_of(world.tenant.configuration, slots)
    names = (f"noisy{number}" for number in range(1000))
    noisy = Tenant(world.server, next(n for n in names if slot_of(f"configuration-{n}", slots) == ours))
    await noisy.open()
    return noisy


async def _flood(noisy: Tenant, count: int) -> None:
    numbers, settings = iter(range(count)), IngressSettings(tls_certificate_file=Path(), tls_key_file=Path())
    crowding = Crowding(settings.calm_burst, settings.calm_messages_per_second)

    async def store() -> None:
        for number in numbers:
            crowded = crowding.count(noisy.configuration, time.monotonic())
            await noisy.accept(f"u{number}@{'dead' if number % 2 else 'slow'}.test", crowded=crowded)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(STORING):
            tasks.create_task(store())
    print(f"{count} messages of the neighbour are stored", file=sys.stderr)


async def _times(world: World, count: int, pause_seconds: float, name: str) -> dict[str, float]:
    """Send a trickle; return quantiles of the time from the PubAck to the final dot, in milliseconds."""
    stored: dict[str, float] = {}
    arrived: dict[str, float] = {}

    def note(message: Received) -> None:
        arrived[message.recipients[0]] = time.monotonic()

    world.exchanger.on_final = note
    for number in range(count):
        address = f"{name}{number}@rcpt.test"
        stored[address] = time.monotonic()
        await world.tenant.accept(address)
        await asyncio.sleep(pause_seconds)
    await world.exchanger.until(lambda: stored.keys() <= arrived.keys(), 300)
    times = [(arrived[address] - at) * 1000 for address, at in stored.items()]
    cuts = quantiles(times, n=100, method="inclusive")
    print(f"{name}: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms", file=sys.stderr)
    return {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "most": round(max(times), 1)}


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--messages", type=int, default=10_000)
    options.add_argument("--trickle", type=int, default=300)
    options.add_argument("--pause", type=float, default=0.1, help="seconds between two messages of B")
    given = options.parse_args()
    print(json.dumps(asyncio.run(measure(given.messages, given.trickle, given.pause)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
