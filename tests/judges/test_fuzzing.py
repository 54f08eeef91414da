"""A few seconds of guided fuzzing per target: nothing breaks a rule. `benchmarks/fuzz_parsers.py` runs for longer."""

import pytest

from benchmarks.fuzz_parsers import LIBRARY, fuzz
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.judge

SECONDS = 5


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_case_breaks_a_rule(target: str) -> None:
    """From the kept corpus on, guided by coverage."""
    if not (LIBRARY / "atheris").exists():
        pytest.skip("atheris is not installed; `make judges` installs it where there is a wheel of it")
    run = fuzz(target, SECONDS, keep=False)
    assert run.crash == ""
    assert run.cases > 100
