"""Delivery under fire: workers and nats-server die by kill -9 every few seconds; a ledger counts what arrived.

Run: `python -m benchmarks.fault_run --messages 20000`. Starts its own nats-server, delivery workers and a mail
exchanger on loopback, tells how far it is on stderr and prints one JSON object. It ends with an error if a message is
lost, or if a second copy lies outside the window of a fault or is not marked in its record. `--lose 3` is the control:
so many messages are acked without being delivered, and the ledger must name exactly those.
"""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from shared.bus.settings import Topology
from shared.bus.streams import PullConsumer, Taken
from shared.contract.envelope import Carriage, Envelope, pack
from shared.contract.errors import BusUnavailable, WrongSequence
from shared.contract.events import AnyStatus
from tests.bus_server import BusServer
from tests.delivery.exchanger import Received
from tests.delivery.world import World, made
from tests.patience import ended

TOPOLOGY = Topology(shards=2, slots=2, mail_bytes=1 << 30)
DEFERRED_SHARE = 5
"""Every so many recipients are deferred at first."""
ACCEPTING = 20
SECONDS_AROUND = 3.0
"""A first copy that came so long before a fault, or after the bus was back, can have been in flight at that fault."""
CONCURRENCY = 20


class Fault(msgspec.Struct, frozen=True):
    """Something that was killed, and when it was there again."""

    what: str
    at: float
    until: float


class Run:
    """One run: the world, its processes, what was accepted, what arrived when, and what was killed when."""

    def __init__(self, world: World, workers: int, seed: int) -> None:
        self.world = world
        self.dice = random.Random(seed)
        self.accepted: dict[str, Envelope] = {}
        self.arrivals: dict[str, list[float]] = defaultdict(list)
        self.faults: list[Fault] = []
        self.accept_seconds = 0.0
        world.exchanger.on_final = self._note
        self.processes = [self.worker() for _ in range(workers)]

    def _note(self, message: Received) -> None:
        for recipient in message.recipients:
            self.arrivals[recipient].append(time.monotonic())

    def worker(self) -> subprocess.Popen[bytes]:
        """Start a delivery of its own process."""
        return self.world.process(
            quiet=True,
            retry_waits_seconds="2",
            concurrency=str(CONCURRENCY),
            domain_concurrency=str(CONCURRENCY),
            mta_sts="false",
        )

    async def accept(self, count: int) -> None:
        """Store messages as ingress does: the same queue ID again until the PubAck has come."""
        numbers = iter(range(count))
        began = time.monotonic()

        async def client() -> None:
            for number in numbers:
                address = f"r{number}@rcpt.test"
                if number % DEFERRED_SHARE == 0:
                    self.world.exchanger.by_recipient[address] = [(b"451 4.3.0 not yet\r\n",), (b"250 ok\r\n",)]
                await self.store(address)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(ACCEPTING):
                tasks.create_task(client())
        self.accept_seconds = time.monotonic() - began

    async def store(self, address: str) -> Envelope:
        """Store one message and note it as accepted."""
        tenant = self.world.tenant
        mail = tenant.mail(b"hello " * 150 + b"\r\n")
        envelope = tenant.envelope(mail, address)
        place, payload = tenant.place(envelope), pack(Carriage(envelope=envelope), mail)
        assert tenant.ingress is not None
        while True:
            try:
                await tenant.ingress.store(place.ready, payload, stream=f"MAIL_{place.shard}", expected_last=0)
            except BusUnavailable:
                await asyncio.sleep(0.2)
                continue
            except WrongSequence:
                pass  # a try before, whose answer was lost
            self.accepted[address] = envelope
            return envelope

    async def lose(self, count: int) -> set[str]:
        """Take messages from the queue, ack them and do nothing: a loss made on purpose."""
        lost = {f"lost{number}@rcpt.test" for number in range(count)}
        for address in sorted(lost):
            place = self.world.tenant.place(await self.store(address))
            consumer = PullConsumer(self.world.watcher.bus, f"MAIL_{place.shard}", f"{place.lane}-{place.slot}")
            taken: list[Taken] = []
            while not taken:
                taken = await consumer.fetch(1, 1 << 20, 5)
            await taken[0].ack()
        await self.world.watcher.bus.reached()
        return lost

    async def kill(self, pauses: tuple[float, float]) -> None:
        """Kill something every few seconds, for ever."""
        while True:
            await asyncio.sleep(self.dice.uniform(*pauses))
            at = time.monotonic()
            if self.dice.random() < 0.3:
                self.world.server.kill()
                await asyncio.sleep(self.dice.uniform(0.2, 2.0))
                await asyncio.to_thread(self.world.server.start)
                self.faults.append(Fault("nats-server", at, time.monotonic()))
            else:
                victim = self.dice.randrange(len(self.processes))
                self.processes[victim].send_signal(signal.SIGKILL)
                self.processes[victim].wait()
                self.faults.append(Fault("worker", at, time.monotonic()))
                self.processes[victim] = self.worker()

    async def last_records(self) -> dict[str, AnyStatus]:
        """Return the last record of every message, by queue ID."""
        decoder = msgspec.json.Decoder(AnyStatus)
        found: dict[str, AnyStatus] = {}
        async for stored in self.world.watcher.bus.scan("STATUS", "postlane.status.>"):
            event = decoder.decode(stored.payload)
            found[event.queue_id] = event
        return found

    async def until_arrived(self, count: int, deadline: float, killer: "asyncio.Task[None]") -> None:
        """Wait until so many have arrived, the time is over, or the killer has failed."""
        while len(self.arrivals) < count and time.monotonic() < deadline and not killer.done():  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def until_settled(self, quiet_seconds: float, deadline: float) -> None:
        """Wait until everything accepted has arrived and the queues are empty, or nothing has moved for long."""
        seen, since = -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < quiet_seconds:
            arrived = sum(map(len, self.arrivals.values()))
            if arrived != seen:
                seen, since = arrived, time.monotonic()
            try:
                if self.accepted.keys() <= self.arrivals.keys() and not await self.world.watcher.queued():
                    return
            except BusUnavailable:
                pass
            await asyncio.sleep(0.5)

    def near_fault(self, moment: float) -> bool:
        """Return whether a copy that came at a moment can have been in flight when something died."""
        return any(fault.at - SECONDS_AROUND <= moment <= fault.until + SECONDS_AROUND for fault in self.faults)

    def report(self, records: dict[str, AnyStatus], queued: list[str], lost: set[str]) -> dict[str, Any]:
        """Return the figures; what must not be is under `missing`, `foreign`, `outside`, `unmarked`, `unsaid`."""
        twice = {address: times for address, times in self.arrivals.items() if len(times) > 1}
        last = {address: records.get(envelope.queue_id) for address, envelope in self.accepted.items()}
        marked = {a for a, event in last.items() if event is not None and event.recipients[0].possible_duplicate}
        arrived = self.accepted.keys() & self.arrivals.keys()
        here = {subject.rpartition(".")[2] for subject in queued}
        waiting = {a for a, envelope in self.accepted.items() if envelope.queue_id in here}
        killed = [fault.what for fault in self.faults]
        return {
            "accepted": len(self.accepted),
            "killed": {what: killed.count(what) for what in ("worker", "nats-server")},
            "missing": sorted(self.accepted.keys() - self.arrivals.keys() - waiting),
            "waiting": len(waiting),
            "lost_on_purpose": sorted(lost),
            "foreign": sorted(self.arrivals.keys() - self.accepted.keys()),
            "duplicates": sum(len(times) - 1 for times in twice.values()),
            "outside": sorted(a for a, times in twice.items() if not all(map(self.near_fault, times[:-1]))),
            "unmarked": sorted(set(twice) - marked - waiting),
            "marked_but_single": len(marked - set(twice)),
            "unsaid": sorted(a for a in arrived - waiting if (event := last[a]) is None or event.status != "delivered"),
        }

    async def stop(self) -> None:
        """End the workers in good order."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            await asyncio.to_thread(process.wait, 60)


async def run(
    messages: int, *, workers: int = 2, pauses: tuple[float, float] = (3.0, 8.0), lose: int = 0, seed: int = 7,
    seconds: float = 1800, progress: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run once and return the report; `ok` says whether it is as it must be."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "nats").mkdir()
        server = BusServer(Path(place) / "nats", TOPOLOGY)
        await asyncio.to_thread(server.start)
        try:
            await server.provision()
            async with made(server, Path(place)) as world:
                return await _fought(world, messages, workers, pauses, lose, seed, seconds, progress)
        finally:
            server.stop()


async def _fought(
    world: World, messages: int, workers: int, pauses: tuple[float, float], lose: int, seed: int, seconds: float,
    progress: bool,
) -> dict[str, Any]:  # fmt: skip
    began = time.monotonic()
    fight = Run(world, 0, seed)
    lost = await fight.lose(lose)
    fight.processes = [fight.worker() for _ in range(workers)]
    killer = asyncio.create_task(fight.kill(pauses))
    teller = asyncio.create_task(_tell(fight, messages)) if progress else None
    try:
        await fight.accept(messages)
        await fight.until_arrived(messages, began + seconds, killer)
        await ended(killer)
        if not await world.watcher.bus.reached():
            world.server.stop()
            await asyncio.to_thread(world.server.start)
        await fight.until_settled(60 if not lost else 15, began + seconds)
        await fight.stop()
        report = fight.report(await fight.last_records(), await world.watcher.queued(), lost)
    finally:
        await ended(*(task for task in (killer, teller) if task is not None))
        await fight.stop()
    report["seconds"] = round(time.monotonic() - began, 1)
    report["accept_seconds"] = round(fight.accept_seconds, 1)
    report["ok"] = report["missing"] == report["lost_on_purpose"] and not any(
        report[name] for name in ("foreign", "outside", "unmarked", "unsaid")
    )
    return report


async def _tell(fight: Run, messages: int) -> None:
    while True:
        await asyncio.sleep(10)
        print(
            f"accepted {len(fight.accepted)} of {messages}, arrived {len(fight.arrivals)}, killed {len(fight.faults)}",
            file=sys.stderr,
        )


def main() -> int:
    """Run, print the report; 1 if something is not as it must be."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--messages", type=int, default=20_000)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--lose", type=int, default=0)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--seconds", type=float, default=1800, help="give up after this time")
    given = options.parse_args()
    report = asyncio.run(
        run(
            given.messages,
            workers=given.workers,
            lose=given.lose,
            seed=given.seed,
            seconds=given.seconds,
            progress=True,
        )
    )
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
