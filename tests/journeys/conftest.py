"""One running system for all journeys; each uses markers and domains of its own."""

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the journeys a running system with the sandbox."""
    running = System(tmp_path_factory.mktemp("journeys")).start()
    yield running
    assert running.stop() == 0
