"""Leases of checks on a real bus, under clocks the test turns."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from services.verifier.rota import Rota
from shared.bus.client import Bus
from shared.contract.standing import Observation
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block, until

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LEASE = timedelta(seconds=60)
SEEN = (Observation(verdict="pass", detail="good", name="d.example", at=NOW),)


class Clocks:
    """A wall clock and a monotonic one; `pass_` moves both, `set` only the first."""

    def __init__(self) -> None:
        self.wall = NOW
        self.ticks = 0.0

    def pass_(self, time: timedelta) -> None:
        """Let time pass."""
        self.wall += time
        self.ticks += time.total_seconds()

    def set(self, by: timedelta) -> None:
        """Let somebody set the wall clock."""
        self.wall += by


@pytest.fixture
async def bus(bus_server: BusServer) -> AsyncIterator[Bus]:
    """Give a test the verifier's connection."""
    connected = await bus_server.connect("verifier")
    yield connected
    await connected.close()


async def rota(bus: Bus, name: str, clocks: Clocks, tasks: asyncio.TaskGroup) -> Rota:
    made = Rota(
        bus, name, lease=LEASE, longest=timedelta(hours=12), kept=5,
        clock=lambda: clocks.wall, monotonic=lambda: clocks.ticks,
    )  # fmt: skip
    await made.start(tasks)
    return made


async def due(rota: Rota, *, doubtful: bool = False) -> list[str]:
    """Return what becomes due, once the broadcasts have come in."""
    found: list[str] = []

    def something() -> bool:
        found[:] = rota.due(10, doubtful=doubtful)
        return bool(found)

    await until("something is due", something)
    return found


async def test_of_two_replicas_one_gets_the_lease_and_gives_it_back(bus: Bus) -> None:
    """What one holds the other does not get, until it is given back and due again."""
    clocks = Clocks()
    async with tasks_of_a_block() as tasks:
        one, two = await rota(bus, "one", clocks, tasks), await rota(bus, "two", clocks, tasks)
        await one.ensure("c-1", NOW)
        clocks.pass_(timedelta(seconds=1))
        assert (await due(one), await due(two)) == (["c-1"], ["c-1"])
        leases = [await one.lease("c-1"), await two.lease("c-1")]
        assert leases[1] is None
        assert leases[0] is not None
        assert not leases[0].was_abandoned
        await one.give_back(leases[0], clocks.wall + timedelta(hours=1), SEEN, doubtful=True)
        assert await two.lease("c-1") is None
        assert [s.observation for s in await two.history("c-1")] == list(SEEN)
        clocks.pass_(timedelta(hours=1, seconds=1))
        assert await due(two, doubtful=True) == ["c-1"]
        assert two.due(10, doubtful=False) == []
        assert await two.lease("c-1") is not None


async def test_the_lease_of_a_dead_replica_runs_out_and_is_known_as_abandoned(bus: Bus) -> None:
    """The check is due again for the others, and for the holder itself at once."""
    clocks = Clocks()
    async with tasks_of_a_block() as tasks:
        one, two = await rota(bus, "one", clocks, tasks), await rota(bus, "two", clocks, tasks)
        await one.ensure("c-1", NOW)
        clocks.pass_(timedelta(seconds=1))
        first = await one.lease("c-1")
        assert first is not None
        assert await one.lease("c-1") is not None
        assert await two.lease("c-1") is None
        clocks.pass_(LEASE + timedelta(seconds=1))
        assert await due(two) == ["c-1"]
        taken = await two.lease("c-1")
        assert taken is not None
        assert taken.was_abandoned
        await one.give_back(first, clocks.wall + timedelta(days=9), (), doubtful=False)
        assert await one.lease("c-1") is None


@pytest.mark.parametrize("by", [timedelta(days=-2), timedelta(days=2)])
async def test_a_clock_that_is_set_stops_no_checks(bus: Bus, by: timedelta) -> None:
    """A check planned by a clock two days ahead is due as soon as the clock is right again, and one missed is due."""
    clocks = Clocks()
    async with tasks_of_a_block() as tasks:
        one = await rota(bus, "one", clocks, tasks)
        await one.ensure("c-1", NOW + timedelta(hours=6))
        await until("it is known", lambda: bool(one.configurations()))
        clocks.pass_(timedelta(seconds=1))
        assert one.due(10, doubtful=False) == []
        clocks.set(by)
        found = one.due(10, doubtful=False)
        clocks.pass_(timedelta(seconds=1))
        assert found + one.due(10, doubtful=False) == ["c-1"]
        assert await one.lease("c-1") is not None
