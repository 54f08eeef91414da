"""Fixtures of the tests of control; what needs another world, or tests another room, makes its own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.control_world import Tenant, World
from tests.town import Town, town_of


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the module two replicas of control on one bus."""
    found = World(tmp_path_factory.mktemp("control"))
    yield found
    found.close()


@pytest.fixture
def tenant(world: World) -> Tenant:
    """Give a test a tenant of its own."""
    return world.tenant()


@pytest.fixture
async def town(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Town]:
    """Give a test two tenants that want the same domain."""
    async with town_of(bus_server, tmp_path) as found:
        yield found
