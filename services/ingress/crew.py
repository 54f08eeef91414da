"""Several worker processes on the same ports: started, started again when they end, drained together.

Each worker is a whole ingress that shares its listening ports (SO_REUSEPORT) and knows nothing of the others beyond
what all ingress processes tell each other over the bus. This process takes no mail.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from services.ingress.settings import IngressSettings
from services.ingress.worker_pages import WorkerPages
from shared.contract.errors import PostlaneError, SettingsFault
from shared.runtime.lifecycle import Room
from shared.runtime.orphans import die_with_parent

PROGRAM = """
import os, pathlib, sys
from services.ingress.app import main
sys.exit(main(os.environ, pathlib.Path(sys.argv[1]) if sys.argv[1:] else None))
"""
FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 20.0
"""A worker that has run this long starts again without delay when it ends."""
SETTLE_SECONDS = 20.0
"""Time a worker gets beyond the drain to publish what is left, before it is killed."""


class WorkerFailed(PostlaneError, RuntimeError):
    """A worker ended by itself before it ever took mail; its log says why, and a repetition would not help."""


class Crew:
    """The workers of one ingress; `run` keeps them until the room is told to stop."""

    def __init__(
        self, room: Room, settings: IngressSettings, environ: Mapping[str, str], file: Path | None, directory: Path
    ) -> None:
        """Prepare; the workers answer for their health on sockets in `directory`, which only we may enter."""
        listens = (
            *settings.public_listen,
            *settings.public_tls_listen,
            *settings.private_listen,
            *settings.private_tls_listen,
        )
        if any(place.endswith(":0") for place in listens):
            raise SettingsFault(
                "POSTLANE_INGRESS_PROCESSES: several processes need ports with numbers, the listeners have port 0"
            )
        self._room = room
        self._settings = settings
        self._environ = environ
        self._arguments = [sys.executable, "-c", PROGRAM, *([str(file)] if file else [])]
        self._directory = directory
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._pages = WorkerPages(room, directory, settings.processes, self._answered)
        self._owed: set[int] = set()
        """Workers that were starting when this process was told to hang up: the signal would have ended them."""

    async def run(self) -> None:
        """Keep the workers running until the room is told to stop, and drain them then."""
        numbers = range(1, self._settings.processes + 1)
        watches = [self._room.tasks.create_task(self._keep(number), name=f"worker {number}") for number in numbers]
        self._room.tasks.create_task(self._pages.follow(), name="what the workers say")
        self._room.on_hangup = self._hang_up
        try:
            await self._room.stopping.wait()
            self._room.ready("accepting", False, "told to stop")
        finally:  # also when a worker could not start
            for process in self._living():
                process.terminate()
        await asyncio.wait(watches, timeout=self._settings.drain_seconds + SETTLE_SECONDS)
        for process in self._living():
            self._room.log.error("a worker did not end in time and is killed", extra={"pid": process.pid})
            process.kill()

    def _hang_up(self) -> None:
        self._owed.update(self._processes)
        for number in self._processes:
            if self._pages.answers(number):
                self._answered(number)

    def _answered(self, number: int) -> None:
        process = self._processes[number]
        if number in self._owed and process.returncode is None:
            self._owed.discard(number)
            process.send_signal(signal.SIGHUP)

    def _living(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._processes.values() if process.returncode is None]

    async def _keep(self, number: int) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._room.stopping.is_set():
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *self._arguments, env=self._environment(number), start_new_session=True, preexec_fn=die_with_parent
            )
            self._processes[number] = process
            if self._room.stopping.is_set():  # told while it was being started
                process.terminate()
            status = await process.wait()
            if self._room.stopping.is_set():
                if status != 0:
                    self._room.log.error("worker %d did not end in good order", number, extra={"status": status})
                return
            if status > 0 and not self._pages.was_ready(number):
                raise WorkerFailed(f"worker {number} could not start (status {status}); its log says why")
            self._pages.ended(number)
            self._room.log.error("worker %d ended, it is started again", number, extra={"status": status})
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._room.stopping.wait()
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    def _environment(self, number: int) -> dict[str, str]:
        return {
            **self._environ,
            "POSTLANE_INGRESS_PROCESSES": "1",
            "POSTLANE_INGRESS_SHARE_PORT": "true",
            "POSTLANE_HEALTH_LISTEN": f"unix:{self._directory / str(number)}",
        }


async def supervise(room: Room, settings: IngressSettings, environ: Mapping[str, str], file: Path | None) -> None:
    """Run as many workers as the settings say until the room is told to stop."""
    with tempfile.TemporaryDirectory(prefix="postlane-ingress-") as directory:
        await Crew(room, settings, environ, file, Path(directory)).run()
