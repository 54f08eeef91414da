"""Fixtures for every tier above the unit tests."""

import os
from collections.abc import Iterator
from pathlib import Path

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
