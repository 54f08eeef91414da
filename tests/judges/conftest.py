"""One running system for all judges that need one."""

from collections.abc import Iterator

import pytest

from tests.system import System


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the judges a running system with the sandbox."""
    # OpenSMTPD has a backlog of five connections: one that the kernel drops there looks open from here, and is silent.
    # RFC 5321 gives a greeting five minutes, which no test waits for.
    limits = {"POSTLANE_DELIVERY_COMMAND_TIMEOUT_SECONDS": "30"}
    running = System(tmp_path_factory.mktemp("judges"), **limits).start()
    yield running
    assert running.stop() == 0
