"""IBM's unmodified Node client of context-based restrictions drives every operation, with each authenticator."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.judges.toolbox import node_package
from tests.system import System

pytestmark = pytest.mark.judge

PROGRAM = Path(__file__).parent / "tools" / "restrictions.js"
PACKAGE = "@ibm-cloud/platform-services"
SECONDS = 120
EXPECTED = [
    ("createZone", 201), ("listZones", 200), ("getZone", 200), ("replaceZone", 200), ("replaceZone", 412),
    ("createRule", 201), ("listRules", 200), ("getRule", 200), ("replaceRule", 200), ("deleteZone", 409),
    ("getAccountSettings", 200), ("listAvailableServiceOperations", 200), ("listAvailableServicerefTargets", 200),
    ("getServicerefTarget", 404), ("deleteRule", 204), ("deleteZone", 204),
]  # fmt: skip


def run(system: System, kind: str) -> list[dict[str, Any]]:
    """Run the program as a manager of a new instance; return what it was answered, operation by operation."""
    packages = node_package(PACKAGE)
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    instance = system.api("POST", "/v1/postlane/instances", json={"name": f"node {kind}"}).json()["id"]
    key = system.api("POST", "/v1/postlane/keys", json={"role": "manager", "instance": instance}).json()["api_key"]
    done = subprocess.run(
        [node, str(PROGRAM), system.ready["http"], key, instance, kind],
        capture_output=True, text=True, timeout=SECONDS, check=False,
        env={"NODE_PATH": str(packages / "node_modules"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["bearer", "iam"])
def test_every_operation_is_answered_as_the_client_expects(system: System, kind: str) -> None:
    """Zones, rules, operations, targets, settings: created, listed, replaced under ETags, and deleted in order."""
    said = run(system, kind)
    assert [(each["operation"], each["status"]) for each in said] == EXPECTED, said
    created, listed = said[0], said[1]
    assert re.fullmatch(r"[0-9a-f]{32}", created["result"]["id"])
    assert [zone["id"] for zone in listed["result"]["zones"]] == [created["result"]["id"]]
    assert said[3]["result"]["address_count"] == 1
    rules = next(each for each in said if each["operation"] == "listRules")["result"]
    assert [rule["enforcement_mode"] for rule in rules["rules"]] == ["report"]


def test_the_client_covers_every_operation_it_has(system: System) -> None:
    """A newer client with one operation more would be noticed here."""
    source = (node_package(PACKAGE) / "node_modules" / PACKAGE / "context-based-restrictions" / "v1.d.ts").read_text()
    offered = set(re.findall(r"^    ([a-z][A-Za-z]+)\(params\??:", source, re.MULTILINE))
    assert offered == {operation for operation, _ in EXPECTED}


def test_without_authentication_every_operation_is_refused(system: System) -> None:
    """No key: 401 for each of them."""
    assert {each["status"] for each in run(system, "none")} == {401}
