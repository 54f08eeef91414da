"""Fixtures of delivery's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.delivery.world import World, made


@pytest.fixture
async def world(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[World]:
    """Give a test a world with a tenant that may send."""
    async with made(bus_server, tmp_path) as world:
        yield world
