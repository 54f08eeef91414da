"""Fixtures for every tier above the unit tests."""

import asyncio
import faulthandler
import gc
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from shared.bus.settings import Topology
from tests.bus_server import BusServer, started

# A property is judged by what it says, not by how busy the machine is. CI tries the same cases every time.
settings.register_profile("house", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("house")

SMALL = Topology(shards=2, slots=2, mail_bytes=256 << 20)
"""Few consumers, so that a server for one test starts quickly."""


@pytest.fixture
def bus_server(tmp_path: Path) -> Iterator[BusServer]:
    """Give a test a provisioned nats-server of its own."""
    directory = tmp_path / "nats"
    directory.mkdir()
    server = started(directory, SMALL)
    yield server
    server.stop()


LATE_IN_THE_HOUR = 3_540


@pytest.fixture
def within_the_hour() -> None:
    """Begin a test of what is counted by the clock neither in the last minute of an hour nor, so, of a day."""
    while time.time() % 3_600 > LATE_IN_THE_HOUR:
        time.sleep(1)


TOLD_BEFORE_SECONDS = 1.0
"""How long before the end of a test that hangs its tasks are told."""
LEFT_SECONDS = 60.0
"""Time for a test that was ended to clean up, before its process is ended."""
_timers = pytest.StashKey[list[threading.Timer]]()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, object, object]:
    """Have the tasks of a test that hangs told beside its threads, which show only that a loop waits."""
    item.stash[_timers] = [
        threading.Timer(settings.timeout - TOLD_BEFORE_SECONDS, _tell_tasks, (item.nodeid,)),
        threading.Timer(settings.timeout + LEFT_SECONDS, _end, (item.nodeid,)),
    ]
    for timer in item.stash[_timers]:
        timer.daemon = True
        timer.start()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Forget the timers once all is over, cleaning up too."""
    try:
        return (yield)
    finally:
        for timer in item.stash.get(_timers, []):
            timer.cancel()


def _tell_tasks(name: str) -> None:
    print(f"{name} has not ended; its tasks:", file=sys.stderr)
    for task in [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]:
        task.print_stack(file=sys.stderr)


def _end(name: str) -> None:
    assert sys.__stderr__ is not None
    print(f"{name} does not even end when it is told to", file=sys.__stderr__)
    faulthandler.dump_traceback(sys.__stderr__)
    os._exit(1)
