"""The kept cases of the guided fuzzer, replayed: every rule still holds for each of them."""

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_kept_cases(target: str) -> None:
    """Each target has cases; none of them breaks a rule."""
    cases = [path for path in CASES if path.parent.name == target]
    assert cases
    for path in cases:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as fault:  # whatever it is, the case is to be named
            raise AssertionError(f"tests/fuzz/corpus/{target}/{path.name}: {fault!r}") from fault


def test_every_case_belongs_to_a_target() -> None:
    """A renamed target takes its cases along."""
    assert {path.parent.name for path in CASES} == set(TARGETS)
