"""The management API over TLS: its own certificate, renewed while it runs, and nothing weaker."""

import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from services.command.admin.exits import INVALID, NOT_ALLOWED, UNREACHABLE
from shared.runtime.certificates import ensure_certificates
from tests.bus_server import BusServer, started
from tests.conftest import SMALL
from tests.control_process import Control

SECONDS = 60.0


def certificate(directory: Path, name: str) -> Path:
    """Make a CA and a certificate for this machine; return their directory."""
    made = directory / name
    ensure_certificates(made, ("127.0.0.1", "localhost"), datetime.now(UTC))
    return made


def control(bus: BusServer, directory: Path, files: Path) -> Control:
    """Return a control with a certificate, not started."""
    found = Control(
        directory,
        bus,
        tls_certificate_file=str(files / "cert.pem"),
        tls_key_file=str(files / "key.pem"),
        tls_reload_seconds="0.2",
    )
    found.trust = ssl.create_default_context(cafile=str(files / "ca.pem"))
    return found


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[BusServer]:
    """Give a test a bus."""
    (tmp_path / "nats").mkdir()
    running = started(tmp_path / "nats", SMALL)
    yield running
    running.stop()


def test_the_api_is_served_over_tls_and_takes_up_a_new_certificate(bus: BusServer, tmp_path: Path) -> None:
    """Verified by its CA only; the renewed certificate is shown to new connections while open ones go on."""
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    files = shutil.copytree(first, tmp_path / "present")
    api = control(bus, tmp_path, files)
    api.start()
    try:
        document = f"{api.url}/healthz"
        with httpx.Client(verify=api.trust, trust_env=False, timeout=60) as kept:
            assert kept.get(document).status_code == 200
            with pytest.raises(httpx.TransportError):
                httpx.get(document.replace("https", "http"), trust_env=False, timeout=60)
            with pytest.raises(httpx.TransportError):
                httpx.get(document, trust_env=False, timeout=60)
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.load_verify_locations(str(first / "ca.pem"))
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(httpx.TransportError):
                httpx.get(document, verify=old, trust_env=False, timeout=60)

            assert _verb(api.url, first / "ca.pem") == NOT_ALLOWED
            assert _verb(api.url, second / "ca.pem") == UNREACHABLE
            assert _verb(api.url, tmp_path / "none") == INVALID

            assert kept.get(document).status_code == 200  # an idle connection is closed after seconds
            for name in ("key.pem", "cert.pem"):
                shutil.copy(second / name, files / name)
            trust = ssl.create_default_context(cafile=str(second / "ca.pem"))
            deadline = time.monotonic() + SECONDS
            while True:
                assert kept.get(document).status_code == 200
                try:
                    assert httpx.get(document, verify=trust, trust_env=False, timeout=60).status_code == 200
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline, "the new certificate is not shown"
                    time.sleep(0.1)
            assert kept.get(document).status_code == 200
    finally:
        assert api.stop() == 0


def _verb(url: str, ca_file: Path) -> int:
    """Run a verb with a wrong key; return its exit status."""
    environment = {"POSTLANE_URL": url, "POSTLANE_API_KEY": "wrong", "POSTLANE_CA_FILE": str(ca_file)}
    command = (sys.executable, "-m", "services", "instance", "ls")
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=60, check=False)
    return done.returncode


def test_half_a_certificate_is_a_fault_of_the_settings(bus: BusServer, tmp_path: Path) -> None:
    """One file alone, or files that are none, end the start with a sentence."""
    files = certificate(tmp_path, "files")
    for wrong, said in (({"TLS_KEY_FILE": ""}, "belong together"), ({"TLS_KEY_FILE": "/none"}, "cannot be used")):
        api = control(bus, tmp_path, files)
        for name, value in wrong.items():
            variable = f"POSTLANE_CONTROL_{name}"
            api.environment[variable] = value
            if not value:
                del api.environment[variable]
        with pytest.raises(AssertionError, match=said):
            api.start()
