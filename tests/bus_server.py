"""A real nats-server of the tests' own, with the generated users and permissions, provisioned."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from services.command.ports import free_port
from shared.bus.client import Bus, connect
from shared.bus.permissions import ADMINISTRATOR, users
from shared.bus.provision import provision
from shared.bus.server import find_binary
from shared.bus.server_config import ServerPlan, render
from shared.bus.settings import BusSettings, Topology
from shared.runtime.secret import Secret

START_SECONDS = 60.0


class BusServer:
    """One server on a free port; `stop` ends it. `kill` and `start` in turn are a crash and a recovery."""

    def __init__(self, directory: Path, topology: Topology) -> None:
        self.directory = directory
        self.topology = topology
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.replicas = 1
        self._passwords = {name: f"{name}-secret" for name in users()}
        self.file_store = "4GB"
        """How much the server may store in all, as it is at the next start."""
        self.sync = "always"
        """Its `sync_interval` at the next start."""
        self.wrapper: tuple[str, ...] = ()
        """A program and its options that the server runs under."""
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, room: str) -> BusSettings:
        """Return the settings with which a room (or `status`, `provision`) connects."""
        return BusSettings(
            url=self.url,
            user=room,
            password=Secret(self._passwords[room]),
            ping_seconds=1,
            replicas=self.replicas,
        )

    @property
    def pid(self) -> int:
        """The running server's process."""
        assert self._process is not None
        return self._process.pid

    def environment(self, room: str) -> dict[str, str]:
        """Return the variables that give a child process these settings."""
        return {
            "POSTLANE_BUS_URL": self.url,
            "POSTLANE_BUS_USER": room,
            "POSTLANE_BUS_PASSWORD": self._passwords[room],
            "POSTLANE_BUS_REPLICAS": str(self.replicas),
            "POSTLANE_TOPOLOGY_SHARDS": str(self.topology.shards),
            "POSTLANE_TOPOLOGY_MAIL_BYTES": str(self.topology.mail_bytes),
            "POSTLANE_TOPOLOGY_SLOTS": str(self.topology.slots),
        }

    def start(self) -> None:
        """Start the server and wait until it listens."""
        config = self.directory / "nats.conf"
        config.write_text(self._configuration())
        log = (self.directory / "nats.log").open("ab")
        self._process = subprocess.Popen([*self.wrapper, find_binary(), "-c", config], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.directory / "nats.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("nats-server did not start listening")

    def _plan(self) -> ServerPlan:
        return ServerPlan(
            host="127.0.0.1",
            port=self.port,
            store=str(self.directory / "store"),
            passwords=self._passwords,
            max_file_store=self.file_store,
        )

    def _configuration(self) -> str:
        return render(self._plan(), self.topology).replace("sync_interval: always", f"sync_interval: {self.sync}")

    async def provision(self) -> None:
        """Make streams, consumers and buckets."""
        bus = await connect(self.settings(ADMINISTRATOR), ADMINISTRATOR)
        try:
            await provision(bus, self.settings(ADMINISTRATOR), self.topology)
        finally:
            await bus.close()

    async def connect(self, room: str) -> Bus:
        """Connect as a room; the caller closes."""
        return await connect(self.settings(room), room)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server in good order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop the server's process without ending it."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        # The signal alone is not yet the stop. One that has ended shows too, or nobody would ever hear of it.
        seen = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert seen is not None
        assert seen.si_code == os.CLD_STOPPED, (self.directory / "nats.log").read_text()

    def resume(self) -> None:
        """Let a paused server go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.wait(60)
        self._process = None


def started(directory: Path, topology: Topology) -> BusServer:
    """Return a running, provisioned server; the caller stops it."""
    server = BusServer(directory, topology)
    server.start()
    try:
        asyncio.run(server.provision())
    except BaseException:
        server.kill()
        raise
    return server
