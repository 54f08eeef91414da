"""Child processes: started, watched, restarted with back-off, stopped in order. Each has a log and a pid file."""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from shared.contract.errors import PostlaneError
from shared.runtime.orphans import die_with_parent

log = logging.getLogger("up")

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 20.0
"""A child that has run this long starts again without delay when it ends."""
STOP_SECONDS = 30.0


class ChildFailed(PostlaneError, RuntimeError):
    """A child did not become ready; the text has the end of its log."""


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """A process to run: its name, command and whole environment, where it logs and where its pid stands."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_file: Path
    pid_file: Path


class Supervisor:
    """Runs children in the owner's TaskGroup until `stop`. `tell` gets a sentence on every start, end and restart."""

    def __init__(self, tasks: asyncio.TaskGroup, tell: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._tell = tell
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self.restarts: dict[str, int] = {}

    def start(self, child: Child) -> None:
        """Start a child and keep it running."""
        self._watchers[child.name] = self._tasks.create_task(self._keep(child), name=f"watch {child.name}")

    async def _keep(self, child: Child) -> None:
        delay = FIRST_DELAY_SECONDS
        while child.name not in self._stopping:
            began = time.monotonic()
            with child.log_file.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *child.command,
                    env=dict(child.environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for us; we stop the children in their order
                    preexec_fn=die_with_parent,
                )
            self._running[child.name] = process
            child.pid_file.write_text(f"{process.pid}\n")
            if self.restarts.get(child.name):
                self._tell(f"{child.name} runs again")
            status = await process.wait()
            child.pid_file.unlink(missing_ok=True)
            if child.name in self._stopping:
                return
            self.restarts[child.name] = self.restarts.get(child.name, 0) + 1
            if time.monotonic() - began > STEADY_SECONDS:
                delay = FIRST_DELAY_SECONDS
            why = last_lines(child.log_file, 1) if status > 0 else ""
            self._tell(
                f"{child.name} ended ({_ending(status)}), starting it again in {delay:.1f} s; see {child.log_file}"
                + (f", which ends with: {why}" if why else "")
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def stop(self, names: list[str]) -> None:
        """Ask children to end, side by side; kill those that have not after `STOP_SECONDS`."""
        self._stopping.update(names)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._end(name))

    async def _end(self, name: str) -> None:
        watcher = self._watchers.pop(name, None)
        if watcher is None:
            return
        await self._terminate(name)
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher

    async def restart(self, name: str) -> None:
        """End a child; it is started again like one that ended by itself."""
        await self._terminate(name)

    async def _terminate(self, name: str) -> None:
        process = self._running.get(name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self._tell(f"{name} did not end within {STOP_SECONDS:.0f} s and is killed")
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def last_lines(file: Path, count: int = 12) -> str:
    """Return the end of a log for an error message."""
    try:
        with file.open("rb") as log_file:
            log_file.seek(max(0, os.fstat(log_file.fileno()).st_size - 8192))
            return "\n".join(log_file.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return "(no log)"
