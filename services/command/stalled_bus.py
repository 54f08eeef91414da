"""A nats-server that stores nothing any more after a fault of its disk, and would not until it is started again."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

LOOK_SECONDS = 5.0
LOOKS = 3
"""How often in a row it must be so: a server that was only slow has stored something by then."""
AGAIN_SECONDS = 60.0
"""Time for a server that was started again, before it may be once more: its disk may still be full."""


async def tend(page: str, restart: Callable[[], Awaitable[None]], tell: Callable[[str], None]) -> None:
    """Have the server restarted whenever ingress says on its page of readiness that mail is not stored. For ever."""
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        seen = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            why = await _stalled(client, page)
            seen = seen + 1 if why else 0
            if seen == LOOKS:
                tell(f"restarting nats-server: {why}")
                await restart()
                await asyncio.sleep(AGAIN_SECONDS)
                seen = 0


async def _stalled(client: httpx.AsyncClient, page: str) -> str:
    """Return why nothing is stored, "" if it is or that cannot be told."""
    try:
        waiting_for = (await client.get(page)).json().get("waiting_for", {})
    except (httpx.HTTPError, ValueError):
        return ""
    return str(waiting_for.get("store", "")) if isinstance(waiting_for, dict) else ""
