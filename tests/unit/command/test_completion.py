"""Shells complete nouns, verbs and the clients of `connect`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("postlane do", {"domain", "doctor"}),
        ("postlane user r", {"rotate", "rm", "revoke"}),
        ("postlane connect no", {"nodemailer"}),
    ],
)
def test_what_was_begun_is_completed(typed: str, offered: set[str]) -> None:
    """As the script that `--install-completion` writes asks for it; it needs no running system."""
    words = typed.split()
    asking = {"_POSTLANE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")} | asking
    command = Path(sys.executable).with_name("postlane")
    done = subprocess.run([command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert set(done.stdout.split()) == offered, done.stderr
