"""Export and import: a directory moves to another bus as it was, or not at all."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.command.admin.exits import CONFLICT, INVALID
from shared.runtime.sealing import new_master_key
from tests.control_world import World
from tests.system import eventually


@pytest.fixture
def elsewhere(world: World, tmp_path: Path) -> Iterator[World]:
    """Give a test an empty Postlane with the same master key."""
    (tmp_path / "master-key").write_text((world.directory / "master-key").read_text())
    found = World(tmp_path)
    yield found
    found.close()


def postlane(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb on the host of a Postlane, with control's settings."""
    return subprocess.run(
        [sys.executable, "-m", "services", *arguments],
        env=world.control.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_directory_moves_with_all_that_belongs_to_it(world: World, elsewhere: World, tmp_path: Path) -> None:
    """Instances, users, keys: what is exported is imported, works there, and is in the audit log."""
    tenant = world.tenant()
    file = tmp_path / "all.json"
    exported = postlane(world, "export", str(file))
    assert exported.returncode == 0, exported.stderr
    assert file.stat().st_mode & 0o077 == 0

    planned = postlane(elsewhere, "import", str(file), "--dry-run")
    assert "would be created" in planned.stdout
    assert not elsewhere.records()
    done = postlane(elsewhere, "import", str(file))
    assert done.returncode == 0, done.stderr
    assert elsewhere.records() == world.records()
    again = postlane(elsewhere, "import", str(file))
    assert "0 records created, 0 replaced" in again.stdout

    there = elsewhere.control.client(tenant.manager.headers["authorization"].removeprefix("Bearer "))
    eventually("the replica has heard of it", lambda: there.get(tenant.path).status_code == 200)
    assert there.get(tenant.path).json()["id"] == tenant.configuration
    made = there.post(f"{tenant.path}/users", json={})
    assert made.status_code == 201, "the roster of users came along"
    there.close()
    records = elsewhere.operator.get("/v1/postlane/audit", params={"limit": 1000}).json()["records"]
    assert {record["by"] for record in records if record["action"] == "import"} == {"host"}


def test_no_hash_lies_open_in_the_file(world: World, tmp_path: Path) -> None:
    """Nobody who finds the file can try passwords against it, or make a signature."""
    world.tenant()
    file = tmp_path / "all.json"
    assert postlane(world, "export", str(file)).returncode == 0
    text = file.read_text()
    assert "$argon2" not in text
    assert "PRIVATE KEY" not in text
    hashes = [json.loads(line)["record"]["hash"] for line in text.splitlines() if '"api-key.v1"' in line]
    assert hashes
    assert all(len(each) > 64 for each in hashes), "a SHA-256 in hex has 64 characters"


def test_what_differs_stands_against_an_import(world: World, tmp_path: Path) -> None:
    """A record changed since the export: nothing is written, the key is named; with --replace the file wins."""
    tenant = world.tenant()
    file = tmp_path / "all.json"
    assert postlane(world, "export", str(file)).returncode == 0
    tenant.manager.patch(tenant.path, json={"description": "changed since"})
    refused = postlane(world, "import", str(file))
    assert (refused.returncode, f"configuration.{tenant.configuration}" in refused.stderr) == (CONFLICT, True)
    assert tenant.manager.get(tenant.path).json()["description"] == "changed since"
    replaced = postlane(world, "import", str(file), "--replace")
    assert "1 replaced" in replaced.stdout, replaced.stderr
    eventually(
        "the replica has heard of it",
        lambda: tenant.manager.get(tenant.path).json()["description"] != "changed since",
    )


def test_an_altered_file_is_refused(world: World, tmp_path: Path) -> None:
    """Whoever can write to a backup cannot make a tenant's key an operator's with it, nor leave a record out."""
    world.tenant()
    file, altered = tmp_path / "all.json", tmp_path / "altered.json"
    assert postlane(world, "export", str(file)).returncode == 0
    before, text = world.records(), file.read_text()
    changed = text.replace('"role":"manager"', '"role":"operator"').replace('"role":"reader"', '"role":"operator"')
    assert changed != text
    altered.write_text(changed)
    refused = postlane(world, "import", str(altered), "--replace")
    assert (refused.returncode, "not as it was written" in refused.stderr) == (INVALID, True), refused.stderr
    assert world.records() == before


def test_what_is_no_export_is_refused(world: World, tmp_path: Path) -> None:
    """Another file, a file cut off, a broken line, a file of another master key: said so, nothing written."""
    world.tenant()
    file = tmp_path / "all.json"
    assert postlane(world, "export", str(file)).returncode == 0
    lines = file.read_text().splitlines(keepends=True)
    before = world.records()
    wrong = {
        "line 1: this is not an export": "hello\n",
        "is it cut off": "".join(lines[:-1]),
        "line 3": "".join([*lines[:2], lines[2][:40] + "\n", *lines[3:]]),
    }
    for said, text in wrong.items():
        (tmp_path / "wrong.json").write_text(text)
        refused = postlane(world, "import", str(tmp_path / "wrong.json"))
        assert (refused.returncode, said in refused.stderr) == (INVALID, True), refused.stderr
        assert "Traceback" not in refused.stderr
    stranger = tmp_path / "other-key"
    stranger.write_text(new_master_key())
    environment = world.control.environment | {"POSTLANE_CONTROL_MASTER_KEY_FILE": str(stranger)}
    refused = subprocess.run(
        [sys.executable, "-m", "services", "import", str(file), "--replace"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (refused.returncode, "was the master key replaced" in refused.stderr) == (INVALID, True)
    assert world.records() == before
