"""A link that drops everything while more waits to be written than the sockets take."""

import asyncio

import msgspec
import pytest

from shared.bus.client import connect
from shared.contract.errors import BusUnavailable
from tests.bus_server import BusServer
from tests.detour import Detour

LARGE = bytes(8 << 20)
SECONDS = 30.0


async def test_the_loss_is_told_and_ended(bus_server: BusServer) -> None:
    """The connection is given up after three pings, although nobody reads what it holds, and made again."""
    async with Detour(bus_server.port) as way:
        bus = await connect(msgspec.structs.replace(bus_server.settings("ingress"), url=way.url), "ingress")
        told: list[bool] = []
        bus.on_connection(told.append)
        way.block()
        for number in range(3):
            with pytest.raises(BusUnavailable):
                await bus.store(
                    f"postlane.mail.0.transactional.0.c.q{number}", LARGE, stream="MAIL_0", timeout_seconds=0.1
                )
        async with asyncio.timeout(SECONDS):
            while told != [True, False]:
                await asyncio.sleep(0.05)
        way.unblock()
        async with asyncio.timeout(SECONDS):
            while told[:3] != [True, False, True]:
                await asyncio.sleep(0.05)
        assert await bus.store("postlane.mail.0.transactional.0.c.q", b"x", stream="MAIL_0")
        await bus.close()


async def test_it_can_be_closed(bus_server: BusServer) -> None:
    """A process that is told to stop does not wait for the link."""
    async with Detour(bus_server.port) as way:
        bus = await connect(msgspec.structs.replace(bus_server.settings("ingress"), url=way.url), "ingress")
        way.block()
        with pytest.raises(BusUnavailable):
            await bus.store("postlane.mail.0.transactional.0.c.q", 3 * LARGE, stream="MAIL_0", timeout_seconds=0.1)
        async with asyncio.timeout(SECONDS):
            await bus.close()
