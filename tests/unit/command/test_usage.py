"""A command line that cannot be understood."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.command.admin.exits import INVALID


@pytest.mark.parametrize(
    "words",
    [
        ["track"],
        ["nosuchverb"],
        ["search", "--no-such-option"],
        ["queue", "shape", "-o", "poem"],
    ],
)
def test_wrong_usage_is_not_valid_and_never_looks_like_an_answer(words: list[str]) -> None:
    """It ends with 7, not with the 2 that means of a message that it is still open."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")}
    command = Path(sys.executable).with_name("postlane")
    done = subprocess.run([command, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == INVALID, done.stderr
    assert "Usage: postlane" in done.stderr
