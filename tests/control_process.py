"""Control as a process of its own on a test's bus, and a client of its API."""

import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from services.command.ports import free_port
from shared.runtime.sealing import new_master_key
from tests.bus_server import BusServer

START_SECONDS = 60.0
SPF_INCLUDE = "spf.relay.example"


class Control:
    """One replica of control; `stop` ends it in good order."""

    def __init__(self, directory: Path, bus: BusServer, **settings: str) -> None:
        self.port = free_port()
        tls = "tls_certificate_file" in settings
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.trust: ssl.SSLContext | bool = True
        """Whom a client of it trusts."""
        self._directory = directory
        master_key = directory / "master-key"
        if not master_key.exists():
            master_key.write_text(new_master_key())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")},
            **bus.environment("control"),
            "POSTLANE_CONTROL_LISTEN": f"127.0.0.1:{self.port}",
            "POSTLANE_CONTROL_MASTER_KEY_FILE": str(master_key),
            "POSTLANE_CONTROL_SPF_INCLUDE": SPF_INCLUDE,
            "POSTLANE_CONTROL_ARGON2_TIME_COST": "1",
            "POSTLANE_CONTROL_ARGON2_MEMORY_KIB": "8",
            **{f"POSTLANE_CONTROL_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / f"control-{self.port}.log"

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services", "serve", "control"], env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False, verify=self.trust).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"control did not become ready: {self.log.read_text()}")

    def stop(self) -> int:
        """End the process with SIGTERM; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def client(self, key: str) -> "Api":
        """Return a client with an API key; the caller closes it."""
        return Api(self.url, key)


class Api(httpx.Client):
    """A client of the management API that shows one key."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)

    def made(self, path: str, body: Any, status: int = 201) -> Any:
        """POST a body; return the answer, which must have the status."""
        answer = self.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def instance(self, name: str = "acme") -> str:
        """Make an instance; return its ID."""
        return str(self.made("/v1/postlane/instances", {"name": name})["id"])

    def configuration(self, instance: str, domain: str = "acme.example") -> str:
        """Make a configuration; return its ID."""
        return str(self.made(f"/v1/instances/{instance}/smtp/config", {"name": domain, "domain": domain})["id"])
