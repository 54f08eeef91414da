"""Some thousand guided cases per target, the same in every run: nothing breaks a rule.

`benchmarks/fuzz_parsers.py` looks for new ones, at random and for longer.
"""

import pytest

from benchmarks.fuzz_parsers import LIBRARY, fuzz
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.judge

CASES = 20_000
SECONDS = 60


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_case_breaks_a_rule(target: str) -> None:
    """From the kept corpus on, guided by coverage."""
    if not (LIBRARY / "atheris").exists():
        pytest.skip("atheris is not installed; `make judges` installs it where there is a wheel of it")
    run = fuzz(target, SECONDS, keep=False, cases=CASES)
    assert run.crash == ""
    assert run.cases > 100
