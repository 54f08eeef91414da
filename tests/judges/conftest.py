"""One running system for all judges that need one."""

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the judges a running system with the sandbox."""
    running = System(tmp_path_factory.mktemp("judges")).start()
    yield running
    assert running.stop() == 0
