"""The quick start of the README, line by line: from an empty system to a first message, with commands only."""

import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.system import System, eventually

README = Path(__file__).parent.parent.parent / "README.md"
QUEUED = re.compile(r"queued as ([0-9A-Z]+)")


def quick_start() -> list[str]:
    """Return the command lines of the README's quick start, without their remarks."""
    block = re.search(r"<!-- quick start:.*?-->\n```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert block, "the README has no quick start"
    return [stripped for line in block[1].splitlines() if (stripped := line.partition("  #")[0].strip())]


def fill_in(answers: Path) -> None:
    """Do what a person does in an editor: answer every question and affirm what is asked."""
    answers.write_text(answers.read_text().replace('= ""', '= "As usual"').replace("= false", "= true"))


def test_every_line_of_the_quick_start_works(system: System, tmp_path: Path) -> None:
    """Run as written; only the editor and the two values a person copies from the screen are stood in for."""
    environment = dict(system._environment) | {"POSTLANE_SANDBOX_DIRECTORY": system.ready["sandbox"]["directory"]}
    said: dict[str, str] = {}
    for line in quick_start():
        if line.startswith((". ", "$EDITOR")):
            if "answers.toml" in line:
                fill_in(tmp_path / "answers.toml")
            continue
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            environment[name] = value
            continue
        command, _, target = line.partition(" > ")
        words = [said.get(word.removeprefix("$"), word) for word in shlex.split(command)]
        assert words[0] == "postlane", line
        extra = ["-o", "json"] if words[1:3] == ["user", "add"] else []
        runs = partial(
            subprocess.run,
            [sys.executable, "-m", "services", *words[1:], *extra],
            env=environment | {"PYTHONPATH": str(README.parent)},
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        done = runs()
        if words[1] == "send-test" and "535 5.7.8" in done.stderr:
            eventually("ingress has heard of user and rule", lambda runs=runs: runs().returncode == 0)  # type: ignore[misc]
            done = runs()
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if target:
            (tmp_path / target).write_text(done.stdout)
        if extra:
            user = json.loads(done.stdout)
            said["USERNAME"] = user["username"]
            environment["POSTLANE_SMTP_PASSWORD"] = user["password"]
        if queued := QUEUED.search(done.stdout):
            said["QUEUE_ID"] = queued[1]
    assert "QUEUE_ID" in said
    assert "delivered" in done.stdout, done.stdout
