"""A command line that cannot be understood."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.command.admin.exits import INVALID, NEGATIVE, NOT_ALLOWED, UNKNOWN, UNREACHABLE
from services.command.admin.messages import exit_status
from services.command.profile import read_profile, write_profile

SUBMITTER = ("--username", "u", "--from", "a@shop.example")


@pytest.mark.parametrize(
    "words",
    [
        ["track"],
        ["nosuchverb"],
        ["search", "--no-such-option"],
        ["queue", "shape", "-o", "poem"],
        ["serve", "nosuchroom"],
        ["settings", "nosuchroom"],
        ["up", "--smtp-port", "99999"],
        ["up", "--log-level", "loud"],
        ["key", "add", "--role", "king"],
        ["domain", "approve", "shop.example", "--lane", "fast"],
        ["user", "limit", "shop.example", "u", "--staging", "nonsense"],
    ],
)
def test_wrong_usage_is_not_valid_and_never_looks_like_an_answer(words: list[str]) -> None:
    """It ends with 7, not with the 2 that means of a message that it is still open."""
    done = _run(words)
    assert done.returncode == INVALID, done.stderr
    assert "Usage: postlane" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--profile", "nobody", "domain", "ls"], UNKNOWN, "there is no profile 'nobody'"),
        (["up", "--data", "/dev/null"], NEGATIVE, "the data cannot be kept in /dev/null"),
        (["up", "--auto-ports", "--ready-file", "/none/ready"], NEGATIVE, "--ready-file /none/ready cannot be written"),
        (["profile", "use", "nobody"], UNKNOWN, "there is no profile 'nobody'"),
        (["profile", "use", "../nobody"], INVALID, "cannot be a profile's name"),
        (["send-test", "--server", "127.0.0.1", *SUBMITTER], NEGATIVE, "names no port"),
        (["send-test", "--server", "127.0.0.1:1", "--ca-file", "/none", *SUBMITTER], NEGATIVE, "CA file /none"),
        (["send-test", "--server", "127.0.0.1:1", *SUBMITTER], UNREACHABLE, "127.0.0.1:1 cannot be used"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(words: list[str], status: int, said: str) -> None:
    """No trace of our program, and a status that tells one case from another."""
    done = _run(words, POSTLANE_SMTP_PASSWORD="x")
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert done.stderr.startswith("postlane: ")


def test_a_key_that_cannot_be_one_is_no_fault_of_the_server() -> None:
    """Copied with letters that no key has, it is refused before anybody is asked."""
    done = _run(["domain", "ls"], POSTLANE_API_KEY="pl_…")
    assert (done.returncode, done.stderr.count("\n")) == (NOT_ALLOWED, 1), done.stderr


def test_a_profile_keeps_whatever_is_in_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes and backslashes too; and whether it could be written is known."""
    monkeypatch.setenv("POSTLANE_PROFILE", str(tmp_path / "profile.toml"))
    values = {"ca_file": 'C:\\a "b"/ü.pem', "url": "http://127.0.0.1:1"}
    assert write_profile(values, "default")
    assert read_profile("default") == values
    monkeypatch.setenv("POSTLANE_PROFILE", "/dev/null/profile.toml")
    assert not write_profile(values, "default")


@pytest.mark.parametrize(("status", "ends"), [("delivered", 0), ("captured", 0), ("dropped", 1), ("held", 2)])
def test_a_finished_message_is_never_called_open(status: str, ends: int) -> None:
    """Captured mail is where its staging wanted it; a script that waits for an end must see one."""
    assert exit_status(status) == ends


def _run(words: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")}
    environment = kept | {"POSTLANE_PROFILE": "/none/profile.toml"} | environ
    command = Path(sys.executable).with_name("postlane")
    return subprocess.run([command, *words], env=environment, capture_output=True, text=True, timeout=60, check=False)
