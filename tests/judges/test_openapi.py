"""The OpenAPI document: valid by an independent validator, and kept by the API under generated requests."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.judges.toolbox import python_program
from tests.system import System

pytestmark = pytest.mark.judge

SECONDS = 420
CASES_PER_OPERATION = 12
CASES_AT_LEAST = 1_000
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_the_document_is_valid(system: System, tmp_path: Path) -> None:
    """OpenAPI 3.1, and every schema in it, by a validator that is not ours."""
    program = python_program("openapi-spec-validator")
    document = tmp_path / "openapi.json"
    document.write_bytes(system.api("GET", "/v1/postlane/openapi.json").content)

    judged = subprocess.run([program, str(document)], capture_output=True, text=True, timeout=120, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr

    document.write_text(document.read_text().replace('"paths"', '"path"', 1))
    broken = subprocess.run([program, str(document)], capture_output=True, text=True, timeout=120, check=False)
    assert broken.returncode != 0, "the validator accepts a document without paths"


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the judge a system of its own: it changes everything, and asks more often than anybody may."""
    running = System(
        tmp_path_factory.mktemp("openapi"),
        POSTLANE_CONTROL_REQUESTS_AT_ONCE="1000000",
        POSTLANE_CONTROL_STRANGERS_AT_ONCE="1000000",
        POSTLANE_CONTROL_FOLLOW_SECONDS="0.2",  # streams of events end soon, and are judged like the others
    ).start()
    yield running
    assert running.stop() == 0


def settings_for(system: System) -> str:
    """Return the judge's settings: a key of its own, and objects that exist for the operations that need some."""
    # Requests may revoke what they find, but not the key they are made with.
    key = system.api("POST", "/v1/postlane/keys", json={"role": "operator", "description": "judge"}).json()["api_key"]
    other = system.api("POST", "/v1/postlane/keys", json={"role": "operator", "description": "spare"}).json()["id"]
    instance = system.api("POST", "/v1/postlane/instances", json={"name": "judged"}).json()["id"]
    base = f"/v1/instances/{instance}/smtp/config"
    wish = {"name": "judged", "domain": "judged.example"}
    configuration = system.api("POST", base, json=wish).json()["id"]
    user = system.api("POST", f"{base}/{configuration}/users", json={}).json()["id"]
    spare = system.api("POST", base, json=wish | {"domain": "spare.example"}).json()["id"]
    queue_id = system.send("delivered@inbox.example", "judged")
    known = {
        "path.instance_id": instance, "path.configuration_id": configuration, "path.user_id": user,
        "path.account_id": instance, "query.account_id": instance, "path.queue_id": queue_id, "path.key_id": other,
    }  # fmt: skip
    lines = [f'headers = {{ Authorization = "Bearer {key}" }}', "[parameters]"]
    lines += [f'"{name}" = "{value}"' for name, value in known.items()]
    # What is deleted is not what the other operations are tried on.
    lines += ["[[operations]]", 'include-method = "DELETE"', f'parameters = {{ "path.configuration_id" = "{spare}" }}']
    return "\n".join([*lines, ""])


def test_generated_requests_find_no_fault(patient: System, tmp_path: Path) -> None:
    """Requests made from the document, valid and not, never lead to a 5xx or to an answer it does not declare."""
    program = python_program("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(settings_for(patient))
    judged = subprocess.run(
        [
            program, "--config-file", str(tmp_path / "schemathesis.toml"), "run",
            patient.ready["http"] + "/v1/postlane/openapi.json",
            "--phases", "examples,coverage,fuzzing", "--checks", CHECKS, "--max-examples", str(CASES_PER_OPERATION),
            "--workers", "1", "--seed", "20261123", "--no-color", "--generation-database", "none", "--no-shrink",
        ],
        capture_output=True, text=True, timeout=SECONDS, check=False, cwd=tmp_path,
    )  # fmt: skip
    (tmp_path / "report.txt").write_text(judged.stdout)
    report = judged.stdout[-20_000:] + judged.stderr[-2_000:]
    assert judged.returncode == 0, report
    generated = re.search(r"(\d+) generated", judged.stdout)
    assert generated, report
    assert int(generated[1]) > CASES_AT_LEAST, report
    assert "✅ Examples" in judged.stdout, report
    # A mail to confirm an address may be asked for only so often, whoever asks.
    limited = re.search(r"Rate limited: (\d+) operation", judged.stdout)
    assert limited is None or int(limited[1]) == 1, report
