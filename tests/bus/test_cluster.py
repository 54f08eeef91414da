"""The proof of durability in a cluster of three servers: each must sync, one may be down."""

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.command.ports import free_port
from services.ingress.proof import Proof
from shared.bus.client import connect
from shared.bus.permissions import users
from shared.bus.server import find_binary
from shared.bus.server_config import ServerPlan, render
from shared.bus.settings import BusSettings, Topology
from shared.runtime.secret import Secret

SECONDS = 40.0


class Cluster:
    """Three servers with the generated configuration, which know each other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = [free_port() for _ in range(3)]
        self._routes = [free_port() for _ in range(3)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, number: int, sync: str = "always") -> None:
        """Start one of the servers."""
        plan = ServerPlan(
            host="127.0.0.1",
            port=self.ports[number],
            store=str(self.directory / f"store{number}"),
            passwords=dict.fromkeys(users(), "secret"),
            max_file_store="1GB",
        )
        text = render(plan, Topology(shards=1, slots=1)).replace('"postlane"', f'"n{number}"')
        text = re.sub(r"sync_interval: \w+", f"sync_interval: {sync}", text)
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        text += f"cluster {{ name: c, listen: 127.0.0.1:{self._routes[number]}, routes: [{routes}] }}\n"
        config = self.directory / f"n{number}.conf"
        config.write_text(text)
        with (self.directory / f"n{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen([find_binary(), "-c", config], stdout=log, stderr=log)

    def stop(self, number: int) -> None:
        """End one of the servers."""
        process = self.processes.pop(number)
        process.terminate()
        process.wait(20)

    @contextlib.asynccontextmanager
    async def proof(self) -> AsyncIterator[list[tuple[bool, str]]]:
        """Ask as ingress does, connected to the first server; what is concluded is appended."""
        settings = BusSettings(
            url=f"nats://127.0.0.1:{self.ports[0]}", user="ingress", password=Secret("secret"), ping_seconds=1
        )
        bus = await connect(settings, "ingress")
        said: list[tuple[bool, str]] = []
        proof = Proof(bus, 0.2, False, lambda holds, why: said.append((holds, why)))
        asking = asyncio.create_task(proof.run())
        try:
            yield said
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await bus.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give a test a cluster, not started."""
    made = Cluster(tmp_path)
    yield made
    for number in list(made.processes):
        made.stop(number)


async def until(said: list[tuple[bool, str]], holds: bool, word: str = "") -> None:
    """Wait until the last conclusion is this one."""
    deadline = time.monotonic() + SECONDS
    while not (said and said[-1][0] is holds and word in said[-1][1]):
        assert time.monotonic() < deadline, said[-3:]
        await asyncio.sleep(0.05)


async def test_one_careless_server_of_three_is_found(cluster: Cluster) -> None:
    """The server one is connected to syncs, another does not: nothing is proven until it does too."""
    cluster.start(0)
    cluster.start(1)
    cluster.start(2, sync="2m")
    async with cluster.proof() as said:
        await until(said, False, "(n2)")
        cluster.stop(2)
        cluster.start(2)
        await until(said, True)


async def test_one_server_may_be_down_two_may_not(cluster: Cluster) -> None:
    """With a majority that syncs mail is taken; with less nothing could be stored anyway."""
    for number in range(3):
        cluster.start(number)
    async with cluster.proof() as said:
        await until(said, True)
        cluster.stop(2)
        said.clear()
        await until(said, True)
        cluster.stop(1)
        await until(said, False, "majority")
