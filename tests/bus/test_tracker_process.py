"""The tracker as a process: it becomes ready, answers for its health, and stops when told to."""

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from services.command.ports import free_port
from tests.bus_server import BusServer

ROOT = Path(__file__).parents[2]


class Process:
    """`postlane serve tracker`."""

    def __init__(self, server: BusServer, directory: Path) -> None:
        self.health = free_port()
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")},
            **server.environment("tracker"),
            "POSTLANE_HEALTH_LISTEN": f"127.0.0.1:{self.health}",
            "POSTLANE_TRACKER_DATABASE_URL": f"sqlite:///{directory / 'made' / 'tracker.sqlite'}",
        }
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services", "serve", "tracker", cwd=ROOT, env=self._environ,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def page(self, path: str) -> str:
        """Return a page of its health endpoint, also one that says no."""

        def fetch() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=20) as response:
                    return str(response.read().decode())
            except urllib.error.HTTPError as refused:
                return str(refused.read().decode())
            except OSError:
                return "{}"

        return await asyncio.to_thread(fetch)

    async def until_ready(self, ready: bool, what: str = "") -> None:
        """Wait until it says whether it is ready, and names what it waits for."""
        async with asyncio.timeout(60):
            while True:
                told = json.loads(await self.page("/readyz"))
                if told.get("ready") is ready and (not what or what in told["waiting_for"]):
                    return
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        await self._process.communicate()

    async def stop(self) -> tuple[int, str]:
        """Tell it to stop; return its status and what it logged."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            _, log = await self._process.communicate()
        return int(self._process.returncode or 0), log.decode()


@pytest.fixture
def process(bus_server: BusServer, tmp_path: Path) -> Process:
    """Give a test a tracker that is not started yet."""
    return Process(bus_server, tmp_path)


async def test_it_is_ready_once_bus_and_database_are_there_and_stops_in_good_order(process: Process) -> None:
    """Health, metrics, and status 0 after SIGTERM."""
    await process.start()
    await process.until_ready(True)
    async with asyncio.timeout(60):
        while 'postlane_tracker_messages{status="queued"} 0.0' not in await process.page("/metrics"):
            await asyncio.sleep(0.05)
    status, log = await process.stop()
    assert status == 0, log
    assert "stopped in good order" in log


async def test_it_waits_for_the_bus_and_can_be_stopped_while_it_waits(process: Process, bus_server: BusServer) -> None:
    """Without a bus it is alive, not ready, and says what it waits for."""
    bus_server.kill()
    await process.start()
    await process.until_ready(False, "bus")
    status, log = await process.stop()
    assert status == 0, log


async def test_it_starts_before_the_bus_and_becomes_ready_with_it(process: Process, bus_server: BusServer) -> None:
    """Any order of starting will do."""
    bus_server.kill()
    await process.start()
    await process.until_ready(False, "bus")
    bus_server.start()
    await process.until_ready(True)
    assert (await process.stop())[0] == 0
