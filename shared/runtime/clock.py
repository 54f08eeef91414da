"""The clock of the edges; cores get the time as an argument."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any


def now() -> datetime:
    """Return the present time, aware, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def limit(future: asyncio.Future[Any], seconds: float) -> asyncio.TimerHandle:
    """Fail a future with `TimeoutError` if it is not done in time; whoever awaited it cancels the timer.

    asyncio.timeout does the same at several times the price, which counts where every message waits.
    """
    return asyncio.get_running_loop().call_later(seconds, _fail, future)


def _fail(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
