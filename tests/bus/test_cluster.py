"""The proof of durability in a cluster of three servers: each must sync, one may be down."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.ingress.proof import Proof
from shared.bus.settings import Topology
from tests.bus_cluster import BusCluster
from tests.patience import tasks_of_a_block

SECONDS = 60.0


@contextlib.asynccontextmanager
async def proof(cluster: BusCluster, interval_seconds: float = 0.2) -> AsyncIterator[list[tuple[bool, str]]]:
    """Ask as ingress does, connected to the first server; what is concluded is appended."""
    bus = await cluster.nodes[0].connect("ingress")
    said: list[tuple[bool, str]] = []
    asked = Proof(bus, interval_seconds, False, lambda holds, why: said.append((holds, why)))
    async with tasks_of_a_block() as tasks:
        tasks.create_task(asked.run())
        yield said
    await bus.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[BusCluster]:
    """Give a test a cluster, not started."""
    made = BusCluster(tmp_path, Topology(shards=1, slots=1))
    yield made
    made.stop()


async def until(said: list[tuple[bool, str]], holds: bool, word: str = "") -> None:
    """Wait until the last conclusion is this one."""
    deadline = time.monotonic() + SECONDS
    while not (said and said[-1][0] is holds and word in said[-1][1]):
        assert time.monotonic() < deadline, said[-3:]
        await asyncio.sleep(0.05)


async def test_one_careless_server_of_three_is_found(cluster: BusCluster) -> None:
    """The server one is connected to syncs, another does not: nothing is proven until it does too."""
    cluster.nodes[2].sync = "2m"
    cluster.start()
    async with proof(cluster) as said:
        await until(said, False, "(n2)")
        cluster.nodes[2].stop()
        cluster.nodes[2].sync = "always"
        cluster.nodes[2].start()
        await until(said, True)


async def test_one_server_may_be_down_two_may_not(cluster: BusCluster) -> None:
    """With a majority that syncs mail is taken; with less nothing could be stored anyway."""
    cluster.start()
    async with proof(cluster) as said:
        await until(said, True)
        cluster.nodes[2].stop()
        said.clear()
        await until(said, True)
        cluster.nodes[1].stop()
        await until(said, False, "majority")


async def test_a_careless_server_that_answers_late_is_heard_too(cluster: BusCluster) -> None:
    """A majority is taken at its word at once, and the third is asked again, however long the interval is."""
    cluster.nodes[2].sync = "2m"
    cluster.start()
    cluster.nodes[2].pause()
    async with proof(cluster, interval_seconds=600) as said:
        await until(said, True)
        cluster.nodes[2].resume()
        await until(said, False, "(n2)")
