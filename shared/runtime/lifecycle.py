"""The life of a process: logs, loop, signals, health, one TaskGroup, an orderly end."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from shared.contract.errors import PostlaneError
from shared.runtime import logs
from shared.runtime.health import Conditions, HealthServer, HealthSettings
from shared.runtime.settings import load

T = TypeVar("T")

INSIST_SECONDS = 5.0
"""Time for a cancelled task to end before it is cancelled again."""


class Room:
    """A running room: what its main is given.

    `stopping` is set on SIGTERM or SIGINT: stop taking work, finish what is in hand, return. So it is on SIGHUP, unless
    the room has something to do then that does not interrupt its work. Tasks belong to `tasks`; when `main` returns,
    those still running are cancelled. A task that raises ends the process with status 1.
    """

    def __init__(self, name: str, tasks: asyncio.TaskGroup) -> None:
        self.name = name
        self.tasks = tasks
        self.stopping = asyncio.Event()
        self.on_hangup: Callable[[], object] = self.stopping.set
        self.log = logging.getLogger(name)
        self.metrics = CollectorRegistry()
        self.conditions = Conditions()
        self._were_ready: set[str] = set()
        ProcessCollector(registry=self.metrics)

    def ready(self, what: str, is_ready: bool, why: str = "") -> None:
        """Record a named condition of readiness; changes are logged."""
        if self.conditions.set(what, is_ready, why):
            if is_ready:
                self._were_ready.add(what)
                self.log.info("%s is ready", what)
            else:
                level = logging.WARNING if what in self._were_ready and not self.stopping.is_set() else logging.INFO
                self.log.log(level, "%s is not ready: %s", what, why)

    async def unless_stopped(self, work: Awaitable[T]) -> T:
        """Wait for what the room cannot start without; if it is told to stop first, the room ends in good order."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise _Finished
            return task.result()
        finally:
            stop.cancel()
            task.cancel()


def health_settings(environ: Mapping[str, str], file: Path | None = None) -> HealthSettings:
    """Read the settings every room shares."""
    return load(HealthSettings, "health", environ, file)


def run(name: str, main: Callable[[Room], Awaitable[None]], health: HealthSettings) -> int:
    """Run a room until it is told to stop; return the process's exit status."""
    logs.configure(health.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_live(name, main, health))
    except BaseExceptionGroup as faults:
        for fault in _leaves(faults):
            _report(name, fault)
        return 1
    except (PostlaneError, OSError) as fault:
        _report(name, fault)
        return 1
    return 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for fault in group.exceptions:
        found.extend(_leaves(fault) if isinstance(fault, BaseExceptionGroup) else [fault])
    return found


def _report(name: str, fault: BaseException) -> None:
    foreseen = isinstance(fault, PostlaneError)
    logging.getLogger(name).critical("stopped: %s", fault, exc_info=None if foreseen else fault)


class _Finished(Exception):
    """The room's main has returned: its watchers have nothing left to watch."""


async def _live(name: str, main: Callable[[Room], Awaitable[None]], health: HealthSettings) -> None:
    try:
        await _in_group(name, main, health)
    except* _Finished:
        logging.getLogger(name).info("stopped in good order")


async def _in_group(name: str, main: Callable[[Room], Awaitable[None]], health: HealthSettings) -> None:
    async with asyncio.TaskGroup() as tasks:
        room = Room(name, tasks)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, room.stopping.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else it was started under `nohup`
            loop.add_signal_handler(signal.SIGHUP, lambda: room.on_hangup())
        server = HealthServer(name, room.conditions, room.metrics)
        if health.listen:
            await server.start(health.listen)
        room.conditions.set("start", True)
        try:
            await main(room)
        finally:
            loop.call_later(INSIST_SECONDS, _insist, asyncio.current_task())
            await server.close()
        raise _Finished  # ends the group and whatever still runs in it


def _insist(root: asyncio.Task[None] | None) -> None:
    """Cancel again what still runs, or the process would wait for ever for a task that does not know that it is over.

    Before Python 3.12 `asyncio.wait_for` may swallow a cancellation.
    """
    for task in asyncio.all_tasks():
        if task is not root:
            task.cancel()
    asyncio.get_running_loop().call_later(INSIST_SECONDS, _insist, root)
