"""Fixtures of the tests of control; what needs another world, or tests another room, makes its own."""

from collections.abc import Iterator

import pytest

from tests.control_world import Tenant, World


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
