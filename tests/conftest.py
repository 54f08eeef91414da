"""Fixtures for every tier above the unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.bus.settings import Topology
from tests.bus_server import BusServer, started

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
