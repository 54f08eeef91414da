"""Three real nats-servers on loopback that keep three copies of every stream."""

import asyncio
import json
import signal
import time
import urllib.request
from pathlib import Path

import msgspec

from services.command.ports import free_port
from shared.bus.permissions import ADMINISTRATOR
from shared.bus.server_config import Cluster, ServerPlan
from shared.bus.settings import Topology
from shared.contract.errors import BusUnavailable
from tests.bus_server import BusServer

SERVERS = 3
WHOLE_SECONDS = 60.0
LAME_DUCK = signal.SIGUSR2
"""What `nats-server --signal ldm` sends."""


class Node(BusServer):
    """One of the servers; it stays away for as long as nobody starts it."""

    def __init__(self, directory: Path, topology: Topology, name: str, routes: list[int], number: int) -> None:
        super().__init__(directory, topology)
        self.name = name
        self.file_store = "1GB"
        self._routes = routes
        self._number = number
        self._monitor = free_port()

    def _plan(self) -> ServerPlan:
        servers = tuple(f"127.0.0.1:{port}" for port in self._routes)
        cluster = Cluster(listen=servers[self._number], servers=servers, password="of-the-test")
        monitor = f"127.0.0.1:{self._monitor}"
        return msgspec.structs.replace(super()._plan(), name=self.name, monitor=monitor, cluster=cluster)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.directory.mkdir(exist_ok=True)
        super().start()

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self) -> bool:
        """Whether the server has gone by itself."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
        return self._process is None

    def healthy(self) -> bool:
        """Whether it says that its copies of streams and consumers are current."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/healthz", timeout=2) as answer:
                return bool(json.load(answer)["status"] == "ok")
        except (OSError, ValueError):
            return False


class BusCluster(BusServer):
    """Three servers that are used like one; `start`, `stop` and `kill` are of all that run or do not."""

    def __init__(self, directory: Path, topology: Topology) -> None:
        super().__init__(directory, topology)
        self.replicas = SERVERS
        routes = [free_port() for _ in range(SERVERS)]
        self.nodes = [
            Node(directory / f"n{number}", topology, f"n{number}", routes, number) for number in range(SERVERS)
        ]
        self.url = ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start the servers that do not run, and wait until they listen."""
        for node in self.nodes:
            if node.ended():
                node.start()

    def kill(self) -> None:
        """End all of them at once."""
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        """End all of them in good order."""
        for node in self.nodes:
            if not node.ended():
                node.signal(signal.SIGCONT)
                node.stop()

    async def until_whole(self, seconds: float = WHOLE_SECONDS) -> None:
        """Wait until every server runs and has current copies."""
        deadline = time.monotonic() + seconds
        while not all([await asyncio.to_thread(node.healthy) for node in self.nodes]):
            assert time.monotonic() < deadline, "the cluster did not become whole"
            await asyncio.sleep(0.1)

    async def leader(self, stream: str) -> Node:
        """Return the server that leads a stream."""
        deadline = time.monotonic() + WHOLE_SECONDS
        bus = await self.connect(ADMINISTRATOR)
        try:
            while True:
                try:
                    answer = await bus.api(f"STREAM.INFO.{stream}", timeout_seconds=2)
                except BusUnavailable:
                    answer = {}
                name = answer.get("cluster", {}).get("leader")
                for node in self.nodes:
                    if node.name == name:
                        return node
                assert time.monotonic() < deadline, f"{stream} has no leader"
                await asyncio.sleep(0.1)
        finally:
            await bus.close()


async def started_cluster(directory: Path, topology: Topology) -> BusCluster:
    """Return a running, provisioned cluster; the caller stops it."""
    cluster = BusCluster(directory, topology)
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.until_whole()
        await cluster.provision()
        await cluster.until_whole()
    except BaseException:
        cluster.stop()
        raise
    return cluster
