"""Before a final dot it is on record that it may be sent: what died there is marked, and nothing else is."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from services.delivery import intents as module
from services.delivery.commit import Commits
from services.delivery.intents import Intents
from shared.bus.kv import Bucket
from shared.contract.envelope import Envelope, RecipientState
from shared.contract.siblings import Intents as Record
from shared.runtime import clock
from tests.delivery.house import delivering
from tests.delivery.test_resume import attempted, commit
from tests.delivery.world import World
from tests.patience import ended


@contextmanager
def worker(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """Run a delivery of its own process, which a test may kill."""
    child = world.process()
    try:
        yield child
    finally:
        child.kill()
        child.wait(60)


def intents(world: World, name: str) -> Intents:
    """Return the intents of a worker that shares the watcher's connection."""
    return Intents(world.watcher.bus, Commits(world.watcher.bus, lambda: False), name)


def now() -> float:
    """Return the loop's clock."""
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("where", ["FINAL", "DATA"])
async def test_worker_and_server_die_together(world: World, where: str) -> None:
    """The server forgets that it handed the message out; the record still tells who was past the dot, and who not."""
    envelope = await world.tenant.accept("a@rcpt.test")
    world.exchanger.script[where] = [(30.0,), (b"250 ok\r\n" if where == "FINAL" else b"354 go\r\n",)]

    def stuck() -> bool:
        return len(world.exchanger.seen) == 1 if where == "FINAL" else b"DATA" in world.exchanger.commands

    with worker(world) as child:
        await world.exchanger.until(stuck)
        world.server.kill()
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    world.server.start()
    async with delivering(world.server, world.settings()):
        event = await world.watcher.until(envelope, "delivered", seconds=60)
        await world.watcher.until_empty()
    assert event.recipients[0].possible_duplicate == (where == "FINAL")


async def test_those_who_ask_at_once_share_a_write(world: World) -> None:
    """A hundred attempts at their dots cost a few writes; all of them are known to another worker afterwards."""
    began = now()
    mine, other = intents(world, "mine"), intents(world, "other")
    envelopes = [world.tenant.envelope(b"x\r\n", f"r{n}@rcpt.test") for n in range(100)]
    assert all(await asyncio.gather(*(mine.declare(each, 1) for each in envelopes)))
    state = await world.watcher.bus.stream_state("KV_intents")
    assert 1 <= state.last_sequence <= 5
    assert await other.doubtful(envelopes[99], 1, now())
    assert not await other.doubtful(envelopes[99], 2, now())
    assert not await mine.doubtful(world.tenant.envelope(b"y\r\n", "new@rcpt.test"), 1, began)


async def test_an_own_attempt_that_was_never_settled_is_doubtful(world: World) -> None:
    """A worker knows what it came past the dot with and could not commit; what it settled is gone."""
    mine = intents(world, "mine")
    first, second = (world.tenant.envelope(b"x\r\n", f"r{n}@rcpt.test") for n in range(2))
    assert await mine.declare(first, 1)
    assert await mine.declare(second, 1)
    mine.settle(second)
    assert await mine.doubtful(first, 1, now())
    assert not await mine.doubtful(second, 1, now())


async def test_a_later_number_speaks_for_those_before_it(world: World) -> None:
    """One attempt is at its dot when the rest of it gets the next number: both are declared."""
    mine, other = intents(world, "mine"), intents(world, "other")
    envelope = world.tenant.envelope(b"x\r\n", "a@rcpt.test", "b@rcpt.test")
    assert all(await asyncio.gather(mine.declare(envelope, 1), mine.declare(envelope, 2)))
    assert await mine.declare(envelope, 1)
    assert [await other.doubtful(envelope, number, now()) for number in (1, 2, 3)] == [True, True, False]
    assert [await mine.doubtful(envelope, number, now()) for number in (1, 2, 3)] == [True, True, False]


async def test_no_dot_without_a_record(world: World) -> None:
    """While the bus is away no attempt may come to its dot; when it is back, it may."""
    mine = intents(world, "mine")
    envelope = world.tenant.envelope(b"x\r\n", "a@rcpt.test")
    world.server.kill()
    assert not await mine.declare(envelope, 1)
    world.server.start()
    async with asyncio.timeout(60):
        while not await mine.declare(envelope, 1):
            await asyncio.sleep(0.05)


async def test_the_records_of_dead_workers_go_when_all_is_settled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record whose attempts are all committed is dropped; one that still tells something stays."""
    monkeypatch.setattr(module, "CLEAN_SECONDS", 0.05)
    bucket: Bucket[Record] = Bucket(world.watcher.bus, "intents", Record)
    done, still = (world.tenant.envelope(b"x\r\n", f"r{n}@rcpt.test") for n in range(2))
    state = RecipientState(number=1, address="r0@rcpt.test", status="delivered", attempts=1, at=clock.now())
    await commit(world, done, attempted(done, state, next_at=None))
    for name, envelopes in {"settled": [done], "telling": [done, still]}.items():
        await bucket.put(name, _record(name, envelopes))
    task = asyncio.create_task(intents(world, "mine").run())
    async with asyncio.timeout(60):
        while await bucket.get("settled") is not None:
            await asyncio.sleep(0.02)
    assert await bucket.get("telling") is not None
    await ended(task)


async def test_leaving_keeps_only_what_is_open(world: World) -> None:
    """A worker that ends in good order leaves no record; one with an unsettled attempt leaves just that."""
    bucket: Bucket[Record] = Bucket(world.watcher.bus, "intents", Record)
    first, second = (world.tenant.envelope(b"x\r\n", f"r{n}@rcpt.test") for n in range(2))
    mine = intents(world, "mine")
    await mine.declare(first, 1)
    await mine.declare(second, 3)
    mine.settle(first)
    await mine.leave()
    found = await bucket.get("mine")
    assert found is not None
    assert list(found.record.attempts.values()) == [3]
    mine.settle(second)
    await mine.leave()
    assert await bucket.get("mine") is None


def _record(name: str, envelopes: list[Envelope]) -> Record:
    keys = [f"{e.instance}.{e.configuration}.{e.queue_id}" for e in envelopes]
    return Record(worker=name, at=clock.now() - timedelta(minutes=5), attempts=dict.fromkeys(keys, 1))
