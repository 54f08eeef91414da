"""Delivery workers and nats-server are killed at random while mail flows; a ledger counts what arrived.

What was accepted must arrive; a second copy may arrive only where the design allows it, and must be marked.
"""

import asyncio
import os
import random
import signal
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

from shared.contract.envelope import Envelope
from tests.bus_server import BusServer
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import Watcher
from tests.delivery.world import World, made

MESSAGES = 150
KILLS = 3


class Ledger:
    """What was accepted, against what the exchanger's disk would hold."""

    def __init__(self, accepted: dict[str, Envelope], exchanger: Exchanger) -> None:
        self.accepted = accepted
        self.arrived = Counter(recipient for message in exchanger.received for recipient in message.recipients)

    @property
    def missing(self) -> set[str]:
        """Recipients of accepted messages that nothing arrived for."""
        return self.accepted.keys() - self.arrived.keys()

    @property
    def foreign(self) -> set[str]:
        """Recipients that were never accepted."""
        return self.arrived.keys() - self.accepted.keys()

    async def unmarked(self, watcher: Watcher) -> list[str]:
        """Return recipients that got more than one copy although no record says so."""
        found: list[str] = []
        for recipient, copies in self.arrived.items():
            last = await watcher.last(self.accepted[recipient])
            assert last is not None
            if copies > 1 and not last.recipients[0].possible_duplicate:
                found.append(recipient)
        return found


def worker(world: World) -> subprocess.Popen[bytes]:
    """Start a delivery of its own process."""
    return world.process(quiet=True, retry_waits_seconds="1", concurrency="8")


def _arrived(exchanger: Exchanger, number: int) -> bool:
    return len(exchanger.received) >= number


async def test_nothing_is_lost(bus_server: BusServer, tmp_path: Path) -> None:
    """Through kills of workers and of the server every message arrives; second copies are few and marked."""
    dice = random.Random(7)
    async with made(bus_server, tmp_path) as world:
        workers = [worker(world), worker(world)]
        accepted: dict[str, Envelope] = {}
        try:
            for number in range(MESSAGES):
                address = f"r{number}@rcpt.test"
                if number % 5 == 0:
                    world.exchanger.by_recipient[address] = [(b"451 4.3.0 not yet\r\n",), (b"250 ok\r\n",)]
                accepted[address] = await world.tenant.accept(address)
            for kill in range(KILLS):
                enough = (kill + 1) * MESSAGES // (KILLS + 2)
                await world.exchanger.until(partial(_arrived, world.exchanger, enough), 90)
                victim = dice.randrange(2)
                workers[victim].send_signal(signal.SIGKILL)
                workers[victim].wait()
                if kill == 1:
                    world.server.kill()
                    world.server.start()
                workers[victim] = worker(world)
            for envelope in accepted.values():
                await world.watcher.until(envelope, "delivered", seconds=120)
            await world.watcher.until_empty(120)
        finally:
            for process in workers:
                process.terminate()
            for process in workers:
                process.wait(60)
        ledger = Ledger(accepted, world.exchanger)
        assert ledger.missing == set()
        assert ledger.foreign == set()
        assert await ledger.unmarked(world.watcher) == []
        assert sum(ledger.arrived.values()) - MESSAGES <= KILLS * 8


async def test_worker_stopped_past_its_hold(bus_server: BusServer, tmp_path: Path) -> None:
    """A worker that sleeps at the final dot until its hold is over costs one marked second copy, and nothing more."""
    async with made(bus_server, tmp_path) as world:
        asleep = asyncio.Event()
        world.exchanger.script["FINAL"] = [(asleep, b"250 ok\r\n")]
        sleeper = worker(world)
        other: subprocess.Popen[bytes] | None = None
        try:
            envelope = await world.tenant.accept("a@rcpt.test")
            await world.exchanger.until(lambda: len(world.exchanger.seen) == 1, 60)
            sleeper.send_signal(signal.SIGSTOP)
            # The signal alone is not yet the stop.
            await asyncio.to_thread(os.waitid, os.P_PID, sleeper.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            asleep.set()
            other = worker(world)
            await world.watcher.until(envelope, "delivered", seconds=90)
            sleeper.send_signal(signal.SIGCONT)
            async with asyncio.timeout(60):
                while len(await world.watcher.history(envelope)) < 2:
                    await asyncio.sleep(0.05)
            await world.watcher.until_empty(60)
            last = await world.watcher.last(envelope)
        finally:
            for process in filter(None, (sleeper, other)):
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(60)
        assert last is not None
        assert last.recipients[0].possible_duplicate
        assert len(world.exchanger.seen) == 2


async def test_the_ledger_finds_a_loss(bus_server: BusServer, tmp_path: Path) -> None:
    """The control: a message that is taken from the queue without being delivered is found missing."""
    async with made(bus_server, tmp_path) as world:
        kept = await world.tenant.accept("kept@rcpt.test")
        await asyncio.sleep(0)
        ledger = Ledger({"kept@rcpt.test": kept}, world.exchanger)
        assert ledger.missing == {"kept@rcpt.test"}
