"""Which server a room goes to when the one it is connected to hangs."""

import contextlib
from functools import partial

import msgspec

from shared.bus.client import connect
from tests.bus_server import BusServer
from tests.detour import Detour
from tests.patience import until

BLOWS = 4
"""With a server chosen by dice, one of three, all of them would go well once in five times."""


async def test_the_one_that_hangs_is_not_asked_again_first(bus_server: BusServer) -> None:
    """The next one is: to wait for the same once more would cost as long as a connection may take."""
    async with contextlib.AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(Detour(bus_server.port)) for _ in range(3)]
        urls = ",".join(way.url for way in ways)
        bus = await connect(msgspec.structs.replace(bus_server.settings("ingress"), url=urls), "ingress")
        stack.push_async_callback(bus.close)

        def used() -> Detour:
            assert bus.nc.connected_url is not None
            return next(way for way in ways if way.port == bus.nc.connected_url.port)

        def again(epoch: int) -> bool:
            return bus.epoch >= epoch + 2 and bus.connected

        for _ in range(BLOWS):
            hanging, epoch = used(), bus.epoch
            before = hanging.connections
            hanging.block()
            await until("the connection is given up and made again", partial(again, epoch))
            assert used() is not hanging
            assert hanging.connections == before
            hanging.unblock()
