"""Waiting that ends: for something to hold, and for tasks that are told to stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

SECONDS = 20.0
INSIST_SECONDS = 5.0
"""Time for a cancelled task to end before it is cancelled again, as in `shared.runtime.lifecycle`."""


async def until(what: str, holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something holds; fail, naming it, after a bound."""

    async def looked() -> bool:
        return holds()

    await until_seen(what, looked, seconds)


async def until_seen(what: str, holds: Callable[[], Awaitable[bool]], seconds: float = SECONDS) -> None:
    """Wait likewise for what must be asked for; a question under way is finished first, but for its own limit."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"did not happen in {seconds} s: {what}"
        await asyncio.sleep(0.02)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended, however they end; cancel again what has not after a while.

    Before Python 3.12 `asyncio.wait_for`, which libraries use, may swallow a cancellation: a test would wait for ever.
    """
    left: set[asyncio.Task[Any]] = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=INSIST_SECONDS)


class _Over(Exception):
    """The block has ended, and its tasks with it."""


@asynccontextmanager
async def tasks_of_a_block() -> AsyncIterator[asyncio.TaskGroup]:
    """Give tasks a group that is cancelled at the end of the block, and again until all have ended, as in `ended`."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def insist(left: asyncio.TaskGroup) -> None:
        nonlocal timer
        for task in list(left._tasks):
            task.cancel()
        timer = loop.call_later(INSIST_SECONDS, insist, left)

    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            finally:
                timer = loop.call_later(INSIST_SECONDS, insist, tasks)
            raise _Over
    except* _Over:
        pass
    finally:
        if timer is not None:
            timer.cancel()
