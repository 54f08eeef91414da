"""`postlane doctor` finds a healthy system healthy, and says what is wrong with one that is not."""

import json
import os
import signal
from pathlib import Path

import httpx

from shared.contract.catalog import ROOMS
from tests.system import System, eventually


def examined(system: System, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Return status and remarks of the doctor."""
    result = system.postlane("doctor", *arguments, "-o", "json", check=False)
    return result.returncode, [json.loads(line) for line in result.stdout.splitlines()]


def test_a_healthy_system_is_found_healthy(system: System) -> None:
    """Every room, the store, the name servers, the certificate and the endpoints have been looked at."""
    status, remarks = examined(system)
    assert status == 0, remarks
    looked = {(each["where"], each["check"]) for each in remarks}
    assert looked >= {(room, "ready") for room in ROOMS}
    assert looked >= {
        ("bus", "durability"), ("bus", "disk"), ("bus", "streams"), ("bus", "consumers"), ("ingress", "certificate"),
        ("verifier", "name server"), ("delivery", "name server"), ("delivery", "quarantine"), ("tracker", "audit"),
        ("tracker", "disk"),
        ("here", "endpoint"),
    }  # fmt: skip
    assert [each for each in remarks if each["check"] == "permissions"] == []
    assert "durability" in system.postlane("doctor").stdout


def test_only_operators_may_examine(system: System) -> None:
    """A tenant's key is told so."""
    bearer = {"Authorization": f"Bearer {system.tenant['api_key']}"}
    answer = httpx.get(f"{system.ready['http']}/v1/postlane/doctor", headers=bearer, trust_env=False, timeout=60)
    assert answer.status_code == 403


def test_exchangers_are_tried_only_when_asked(system: System) -> None:
    """The sandbox's exchanger greets; a host without an address does not."""
    assert not [each for each in examined(system)[1] if each["check"] == "egress"]
    status, remarks = examined(system, "--egress", "mx.sandbox.example")
    (egress,) = [each for each in remarks if each["check"] == "egress"]
    assert (egress["state"], status) == ("ok", 0), egress
    status, remarks = examined(system, "--egress", "nobody.invalid")
    (egress,) = [each for each in remarks if each["check"] == "egress"]
    assert (egress["state"], status) == ("bad", 1)


def test_what_is_wrong_is_found_and_said(tmp_path: Path) -> None:
    """A room that hangs, readable keys, an API that does not answer."""
    system = System(tmp_path / "sick", POSTLANE_CONTROL_DOCTOR_SECONDS="8").start()
    try:
        tracker = system.pid("tracker")
        os.kill(tracker, signal.SIGSTOP)
        (system.directory / "profile.toml").chmod(0o644)
        status, remarks = examined(system)
        bad = {(each["where"], each["check"]) for each in remarks if each["state"] == "bad"}
        assert (status, bad) == (1, {("tracker", "running"), ("here", "profile")})
        assert "postlane serve tracker" in system.postlane("doctor", check=False).stdout
        os.kill(tracker, signal.SIGCONT)
        (system.directory / "profile.toml").chmod(0o600)
        eventually("all is well again", lambda: examined(system)[0] == 0)
    finally:
        system.stop()
    result = system.postlane("doctor", "--data", str(system.directory / "data"), check=False)
    assert result.returncode == 3
    assert "control is not running" in result.stderr
