"""Three servers are restarted one after the other under submissions (U07)."""

from pathlib import Path

import pytest

from benchmarks.quorum_run import run
from tests.faults.test_quorum import as_it_must_be


@pytest.mark.parametrize("how", ["restarted one by one", "lame duck one by one"])
async def test_rolling_restart(tmp_path: Path, how: str) -> None:
    """As an operator upgrades the servers: no client is told more than to try again, and nearly none that."""
    as_it_must_be(await run(tmp_path, [how]))
