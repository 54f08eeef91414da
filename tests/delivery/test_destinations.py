"""Limits and breakers of a destination, held by two workers together over a real bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.delivery import destinations
from services.delivery.core.outcome import Deferred, lost
from services.delivery.destinations import Destinations
from services.delivery.exchangers import Exchangers
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import delivering, delivery_settings
from tests.delivery.test_courier import Field, field, only
from tests.delivery.world import World
from tests.patience import ended, tasks_of_a_block, until

GROUP = "mx.rcpt.test"
DOWN = [lost("connection refused", "connect")]


@asynccontextmanager
async def worker(world: World, name: str, **settings: object) -> AsyncIterator[Destinations]:
    """Make the destinations of one worker."""
    made = Destinations(world.settings(**settings), world.watcher.bus, name)
    async with tasks_of_a_block() as tasks:
        await made.start(tasks)
        yield made
        await made.leave()


def heard(of: Destinations, name: str) -> Callable[[], bool]:
    """Return whether a worker has heard that another one has something at the destination."""

    def told() -> bool:
        record = of.replica.get(name) if of.replica is not None else None
        return record is not None and (GROUP in record.connections or GROUP in record.open_breakers)

    return told


async def taken(here: Destinations, wanted: int, hold: asyncio.Event) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Ask for places; return the tasks and the list that grows with each place had."""
    had: list[int] = []

    async def one(number: int) -> None:
        async with here.place(GROUP):
            had.append(number)
            await hold.wait()

    return [asyncio.create_task(one(number)) for number in range(wanted)], had


async def test_two_workers_share_the_limit(world: World) -> None:
    """Alone the first has all places; the second gets one at once and more later; one that left counts no more."""
    async with worker(world, "a", domain_concurrency=4) as first:
        hold_a, hold_b = asyncio.Event(), asyncio.Event()
        tasks_a, had_a = await taken(first, 6, hold_a)
        await until("the first has all places", lambda: len(had_a) == 4)
        async with worker(world, "b", domain_concurrency=4) as second:
            await until("the second has heard of it", heard(second, "a"))
            tasks_b, had_b = await taken(second, 6, hold_b)
            await until("the second has one", lambda: len(had_b) == 1)
            await until("the first has heard of it", heard(first, "b"))
            assert (len(had_a), len(had_b)) == (4, 1)  # one place per worker over the limit, and not more
            hold_a.set()
            await asyncio.gather(*tasks_a)
            await until("the second has all", lambda: len(had_b) == 4)
            hold_b.set()
            await asyncio.gather(*tasks_b)
        hold_c = asyncio.Event()
        tasks_c, had_c = await taken(first, 5, hold_c)
        await until("the first has all again", lambda: len(had_c) == 4)
        hold_c.set()
        await asyncio.gather(*tasks_c)


async def test_a_breaker_is_shared(world: World) -> None:
    """What one worker found out keeps the other from trying, until it closes there or its teller is silent."""
    settings = {"breaker_failures": 1, "breaker_pause_seconds": 0.05, "breaker_longest_pause_seconds": 0.05}
    async with worker(world, "a", **settings) as first, worker(world, "b", **settings) as second:
        assert first.paused(GROUP) == ""
        first.tried(GROUP, DOWN)
        assert second.paused(GROUP) == ""  # not told yet: the tolerance
        await until("the second has heard of it", heard(second, "a"))
        assert second.paused(GROUP) == "as another worker found, connection refused"
        await until("the first probes", lambda: first.paused(GROUP) == "")  # the pause is over: this worker probes
        first.tried(GROUP, _good())
        await until("the second tries", lambda: second.paused(GROUP) == "")


def _good() -> list[Deferred]:
    """Return an outcome that shows that the destination speaks."""
    result = lost("mailbox busy", "rcpt")
    return [Deferred(diagnosis=result.diagnosis.__class__(code=450, enhanced="4.2.1", text="busy", phase="rcpt"))]


async def test_the_deferral_names_the_breaker(world: World, tmp_path: Path) -> None:
    """A message that is not tried says that the breaker is open, and why: that is what `why` quotes. No packet goes."""
    exchanger = await Exchanger().start()
    async with (
        worker(world, "a", breaker_failures=1, breaker_pause_seconds=60.0) as first,
        field(tmp_path, exchanger) as made,
    ):
        first.paused(GROUP)
        first.tried(GROUP, DOWN)
        async with worker(world, "b") as second:
            await until("the second has heard of it", heard(second, "a"))
            settings = delivery_settings(tmp_path, resolvers=(made.dns.where,), mx_port=exchanger.port)
            other = Field(made.dns, tmp_path, exchanger.port)
            other.dispatch = type(made.dispatch)(settings, Exchangers(settings), other.courier, None, second)
            result = only(await other.send("x@rcpt.test"))
            assert isinstance(result, Deferred)
            assert "breaker is open (as another worker found, connection refused)" in result.diagnosis.text
            assert exchanger.connections == 0
            other.courier.close()
        assert (await made.send("x@rcpt.test")).dots == 1  # the control: alone, it goes


async def test_a_ramp_after_a_pause(world: World) -> None:
    """When a destination is back one message goes first, then two, then four."""
    settings = {"breaker_failures": 1, "breaker_pause_seconds": 0.01, "domain_concurrency": 8}
    async with worker(world, "a", **settings) as here:
        hold = asyncio.Event()
        async with here.place(GROUP):
            here.paused(GROUP)
            here.tried(GROUP, DOWN)
            await until("it probes", lambda: here.paused(GROUP) == "")
            here.tried(GROUP, _good())
        for allowed in (1, 2, 4):
            hold.clear()
            tasks, had = await taken(here, 10, hold)
            await until(f"{allowed} go", lambda allowed=allowed, had=had: len(had) == allowed)  # type: ignore[misc]
            await ended(*tasks)
            async with here.place(GROUP):
                here.tried(GROUP, _good())


async def test_a_worker_without_mail_to_probe_with_stops_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the pause of a breaker is long over the others may try, though its worker never did."""
    monkeypatch.setattr(destinations, "PROBE_SECONDS", 0.0)
    settings = {"breaker_failures": 1, "breaker_pause_seconds": 6.0}
    async with worker(world, "a", **settings) as first, worker(world, "b", **settings) as second:
        first.paused(GROUP)
        first.tried(GROUP, DOWN)
        await until("the second has heard of it", heard(second, "a"))
        assert second.paused(GROUP) != ""
        await until("the second tries", lambda: second.paused(GROUP) == "")


async def test_one_place_is_one_place(tmp_path: Path) -> None:
    """A single place that was handed over to the only one who waited is not free for who comes next."""
    here = Destinations(delivery_settings(tmp_path, domain_concurrency=1))
    inside: list[int] = []
    leave = [asyncio.Event() for _ in range(3)]

    async def one(number: int) -> None:
        async with here.place(GROUP):
            inside.append(number)
            await leave[number].wait()
            inside.remove(number)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(one(0))
        tasks.create_task(one(1))
        await until("one is inside", lambda: inside == [0])
        leave[0].set()
        await until("the next is", lambda: inside == [1])
        tasks.create_task(one(2))
        for _ in range(20):
            await asyncio.sleep(0)
        assert inside == [1]
        leave[1].set()
        await until("the last is", lambda: inside == [2])
        leave[2].set()


async def test_a_rate(world: World) -> None:
    """Messages to one destination begin no faster than the setting says; another destination is not held up."""
    async with worker(world, "a", domain_messages_per_second=20.0) as here:
        begun = asyncio.get_running_loop().time()
        for _ in range(11):
            async with here.place(GROUP):
                pass
        took = asyncio.get_running_loop().time() - begun
        assert took >= 0.49  # ten waits of 50 ms: a lower bound, which load cannot break
        async with asyncio.timeout(60), here.place("other"):
            pass


async def test_two_processes_deliver_everything(world: World) -> None:
    """Two deliveries side by side, a limit of two: everything arrives once."""
    settings = world.settings(domain_concurrency=2)
    async with delivering(world.server, settings), delivering(world.server, settings):
        sent = [await world.tenant.accept("x@rcpt.test") for _ in range(30)]
        for envelope in sent:
            await world.watcher.until(envelope, "delivered", seconds=60)
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 30


async def test_tenants_have_turns_at_a_busy_destination(world: World) -> None:
    """One tenant's crowd waits for a place; who comes after it waits for one turn, not for the crowd."""
    here = Destinations(world.settings(domain_concurrency=1))
    had: list[str] = []
    hold = asyncio.Event()

    async def one(tenant: str) -> None:
        async with here.place(GROUP, tenant):
            had.append(tenant)
            await hold.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        crowd = [tasks.create_task(one("a")) for _ in range(6)]
        await until("one is inside", lambda: had == ["a"])
        others = [tasks.create_task(one("b")) for _ in range(2)]
        await asyncio.sleep(0)
        await ended(crowd[1])
        hold.set()
    assert had == ["a", "b", "a", "b", "a", "a", "a"]
    assert all(task.done() for task in others)
    async with here.place(GROUP, "c"):
        had.append("c")  # a cancelled waiter has left no place taken
    assert had[-1] == "c"
