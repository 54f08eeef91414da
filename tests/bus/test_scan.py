"""Scans of a stream over a bus that leaves questions unanswered, as when one of three servers hangs."""

from typing import Any

import nats.errors
import pytest

from shared.bus.client import SCAN_SECONDS, Bus
from shared.contract.errors import BusUnavailable
from shared.contract.subjects import Place
from tests.bus_server import BusServer

PLACE = Place(0, "transactional", 1, "c-1", "Q1")
ALL = [b"%d" % n for n in range(8)]


class Deaf:
    """A subscription that hears so many messages, then nothing any more."""

    def __init__(self, subscription: Any, hears: int) -> None:
        self._subscription = subscription
        self._hears = hears

    async def next_msg(self, timeout: float) -> Any:
        """Return the next message, or find none in time."""
        if not self._hears:
            raise nats.errors.TimeoutError
        self._hears -= 1
        return await self._subscription.next_msg(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscription, name)


def deafen(bus: Bus, hears: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each question but the last ones hear only so much of its answer; what is left in `hears` was not asked."""
    subscribe = bus.nc.subscribe

    async def subscribed(*arguments: Any, **named: Any) -> Any:
        subscription = await subscribe(*arguments, **named)
        return Deaf(subscription, hears.pop(0)) if hears else subscription

    monkeypatch.setattr(bus.nc, "subscribe", subscribed)


async def scanned(server: BusServer, hears: list[int], monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Store eight messages and read them in batches of three."""
    ingress, tracker = await server.connect("ingress"), await server.connect("tracker")
    try:
        for payload in ALL:
            await ingress.store(PLACE._replace(queue_id=f"Q{payload.decode()}").ready, payload, stream="MAIL_0")
        deafen(tracker, hears, monkeypatch)
        return [item.payload async for item in tracker.scan("MAIL_0", "postlane.mail.0.>", batch=3)]
    finally:
        await ingress.close()
        await tracker.close()


@pytest.mark.parametrize("hears", [[0], [0, 0], [2], [4, 1], [4, 0, 0, 2, 0]])
async def test_what_is_not_answered_is_asked_again(
    hears: list[int], bus_server: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message comes exactly once, wherever an answer breaks off."""
    assert await scanned(bus_server, hears, monkeypatch) == ALL
    assert hears == []


async def test_a_bus_that_never_answers_is_given_up(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as many questions as there are waits, and not one more."""
    hears = [1] + [0] * (len(SCAN_SECONDS) + 1)
    with pytest.raises(BusUnavailable, match="MAIL_0 stopped"):
        await scanned(bus_server, hears, monkeypatch)
    assert hears == [0, 0]
