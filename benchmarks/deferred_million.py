"""What very many deferred messages cost: memory of server and worker, fresh mail's rate before and during, the sweep.

Run: `python -m benchmarks.deferred_million --messages 1000000`. Starts its own nats-server, one delivery worker and a
mail exchanger on loopback, tells how far it is on stderr and prints one JSON object. The deferred messages are made by
a generator: small, due in two hours, stored as delivery stores them. Fresh mail is stored before the clock starts.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from services.delivery.commit import Commits
from services.delivery.metrics import Metrics
from services.delivery.sweep import Sweep
from shared.bus.settings import Topology
from shared.contract.envelope import Carriage, Progress, RecipientState, pack
from tests.bus_server import BusServer
from tests.delivery.world import World, made

STORING = 64


async def measure(messages: int, fresh: int) -> dict[str, Any]:
    """Measure fresh mail, make the deferred messages, and measure it again beside them."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "nats").mkdir()
        server = BusServer(Path(place) / "nats", Topology(shards=2, slots=2, mail_bytes=1 << 30))
        await asyncio.to_thread(server.start)
        await server.provision()
        try:
            async with made(server, Path(place)) as world:
                report: dict[str, Any] = {"before": await _fresh(world, fresh)}
                began = time.monotonic()
                await _defer(world, messages)
                report["deferred"] = messages
                report["stored_per_second"] = round(messages / (time.monotonic() - began))
                report["during"] = await _fresh(world, fresh)
                report["swept_per_second"] = await _sweep(world)
                return report
        finally:
            server.stop()


async def _fresh(world: World, count: int) -> dict[str, Any]:
    """Deliver so many fresh messages with a worker of its own process; return rate and memory in MB."""
    done = len(world.exchanger.received)
    for number in range(count):
        await world.tenant.accept(f"f{number}@rcpt.test")
    worker = await asyncio.to_thread(world.process, quiet=True, mta_sts="false", sweep_seconds="2")
    try:
        await world.exchanger.until(lambda: len(world.exchanger.received) > done, 120)
        began, first = time.monotonic(), len(world.exchanger.received)
        await world.exchanger.until(lambda: len(world.exchanger.received) >= done + count, 600)
        rate = (done + count - first) / (time.monotonic() - began)
        assert world.server._process is not None
        return {
            "fresh_per_second": round(rate),
            "server_mb": _megabytes(world.server._process.pid),
            "worker_mb": _megabytes(worker.pid),
        }
    finally:
        worker.terminate()
        await asyncio.to_thread(worker.wait, 60)


async def _defer(world: World, count: int) -> None:
    numbers, bus, begun = iter(range(count)), world.watcher.bus, datetime.now(UTC)

    async def store() -> None:
        for number in numbers:
            if number % 50_000 == 0:
                print(f"{number} of {count} deferred", file=sys.stderr)
            mail = world.tenant.mail(b"x\r\n")
            envelope = world.tenant.envelope(mail, f"d{number}@rcpt.test")
            place, due = world.tenant.place(envelope), begun + timedelta(hours=2, milliseconds=number)
            state = RecipientState(number=1, address=f"d{number}@rcpt.test", status="deferred", attempts=1, at=begun)
            progress = Progress(attempt=1, recipients=(state,), due_at=due)
            await bus.store(
                place.later, pack(Carriage(envelope=envelope, progress=progress), mail), expected_last=0,
                stream=f"RETRY_{place.shard}", schedule_at=due, schedule_target=place.due, timeout_seconds=60,
            )  # fmt: skip

    async with asyncio.TaskGroup() as tasks:
        for _ in range(STORING):
            tasks.create_task(store())


async def _sweep(world: World) -> int:
    settings = world.settings(sweep_messages=100_000)
    sweep = Sweep(
        settings, 2, world.watcher.bus, Commits(world.watcher.bus, lambda: True), Metrics(CollectorRegistry())
    )
    waiting = (await world.watcher.bus.stream_state("RETRY_0")).messages
    began = time.monotonic()
    await sweep.sweep(0)
    return round(min(settings.sweep_messages, waiting) / (time.monotonic() - began))


def _megabytes(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) >> 10
    return 0


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--messages", type=int, default=1_000_000)
    options.add_argument("--fresh", type=int, default=2_000)
    given = options.parse_args()
    print(json.dumps(asyncio.run(measure(given.messages, given.fresh)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
