"""Scanners look at submission from outside: nmap's SMTP scripts and sslscan find nothing old, weak or open."""

import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from tests.judges.debian import environment, unpacked
from tests.system import System

pytestmark = pytest.mark.judge

SCAN_SECONDS = 300
OLD = {"SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"}


def nmap(system: System, port: int, *scripts: str) -> dict[str, str]:
    """Run scripts of nmap against a port; return what each printed, and the state of the port."""
    root = unpacked("nmap")
    command = [str(root / "usr/bin/nmap"), "--datadir", str(root / "usr/share/nmap"), "-Pn", "-n", "-oX", "-"]
    command += ["--script", ",".join(f"+{script}" for script in scripts), "-p", str(port), "127.0.0.1"]
    done = subprocess.run(
        command, env=environment(root), capture_output=True, text=True, timeout=SCAN_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    report = ElementTree.fromstring(done.stdout)
    state = report.find(".//port/state")
    assert state is not None
    said = {str(each.get("id")): str(each.get("output")) for each in report.iter("script")}
    return said | {"state": str(state.get("state"))}


def sslscan(system: System, port: int, *options: str) -> ElementTree.Element:
    """Scan the TLS of a port; return the report."""
    root = unpacked("sslscan")
    command = [str(root / "usr/bin/sslscan"), "--no-colour", "--xml=-", *options, f"127.0.0.1:{port}"]
    done = subprocess.run(
        command, env=environment(root), capture_output=True, text=True, timeout=SCAN_SECONDS, check=False
    )
    return ElementTree.fromstring(done.stdout[done.stdout.index("<?xml") :])


def test_what_nmap_sees_in_clear(system: System) -> None:
    """Only what is offered before TLS, and no relaying for strangers."""
    found = nmap(system, system.ready["smtp"]["port"], "smtp-commands", "smtp-open-relay", "smtp-strangeport")
    assert found["state"] == "open"
    assert "STARTTLS" in found["smtp-commands"]
    assert "AUTH" not in found["smtp-commands"]
    assert found["smtp-open-relay"] == "Server isn't an open relay, authentication needed"
    # Its whole list of complaints: the tests listen on whatever port is free.
    assert found["smtp-strangeport"] == "Mail server on unusual port: possible malware"


def test_what_nmap_sees_of_tls(system: System) -> None:
    """TLS 1.2 and 1.3 only, every cipher of the first grade."""
    found = nmap(system, system.ready["smtps"]["port"], "ssl-enum-ciphers")["ssl-enum-ciphers"]
    assert "TLSv1.2" in found
    assert not [version for version in OLD if version in found]
    assert "least strength: A" in found


@pytest.mark.parametrize(("listener", "options"), [("smtp", ("--starttls-smtp",)), ("smtps", ())])
def test_what_sslscan_sees(system: System, listener: str, options: tuple[str, ...]) -> None:
    """No old protocol, no cipher without forward secrecy or authentication, no compression, no heartbleed."""
    report = sslscan(system, system.ready[listener]["port"], *options)
    on = {(each.get("type"), each.get("version")) for each in report.iter("protocol") if each.get("enabled") == "1"}
    assert on == {("tls", "1.2"), ("tls", "1.3")}
    ciphers = [(str(each.get("cipher")), int(str(each.get("bits")))) for each in report.iter("cipher")]
    assert ciphers
    for name, bits in ciphers:
        assert bits >= 128
        assert name.startswith(("TLS_", "ECDHE-", "DHE-"))
        assert "GCM" in name or "CHACHA20" in name
    assert [each.get("supported") for each in report.iter("compression")] in ([], ["0"])
    assert [each.get("supported") for each in report.iter("renegotiation")] == ["0"]
    assert {each.get("vulnerable") for each in report.iter("heartbleed")} == {"0"}
