"""The whole product as a child process, the way a user starts it, and clients that speak to it."""

import contextlib
import json
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 90.0
FOR_TESTS = {
    "POSTLANE_CONTROL_ARGON2_TIME_COST": "1",
    "POSTLANE_CONTROL_ARGON2_MEMORY_KIB": "8",
    "POSTLANE_CONTROL_STRANGERS_AT_ONCE": "1000",
    "POSTLANE_DELIVERY_RETRY_WAITS_SECONDS": "2,4,6",
}


def eventually(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition; fail, naming it, after a bound."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {what}"
        time.sleep(0.02)


class System:
    """`postlane up --sandbox --auto-ports` on a directory; `stop` drains it, `start` goes on where it ended."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.ready: dict[str, Any] = {}
        self._environment = {**os.environ, **FOR_TESTS, **environment}
        self._environment["POSTLANE_PROFILE"] = str(directory / "profile.toml")
        self._process: subprocess.Popen[bytes] | None = None
        self._read: dict[str, bytes] = {}

    @property
    def output(self) -> Path:
        """What `up` told."""
        return self.directory / "up.log"

    def start(self) -> "System":
        """Start and wait for the ready file."""
        self.directory.mkdir(exist_ok=True)
        ready_file = self.directory / "ready.json"
        ready_file.unlink(missing_ok=True)
        command = (sys.executable, "-m", "services", "up", "--sandbox", "--auto-ports")
        options = ("--data", str(self.directory / "data"), "--ready-file", str(ready_file))
        with self.output.open("ab") as output:
            self._process = subprocess.Popen([*command, *options], env=self._environment, stdout=output, stderr=output)
        process = self._process
        eventually("ready file", lambda: ready_file.exists() or process.poll() is not None, START_SECONDS)
        assert process.poll() is None, self.output.read_text()
        self.ready = json.loads(ready_file.read_text())
        eventually("the demo tenant may send", self.may_send)
        return self

    def stop(self) -> int:
        """Ask it to end and return its exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(90)
        self._process = None
        return status

    def pid(self, child: str) -> int:
        """Return the process ID of a child, waiting for one that is being started again."""
        file = self.directory / "data" / "run" / f"{child}.pid"
        found: list[str] = []

        def runs() -> bool:
            with contextlib.suppress(FileNotFoundError):  # it goes with the process, at any moment
                found[:] = file.read_text().split()
            return bool(found)

        eventually(f"{child} runs", runs)
        return int(found[0])

    def kill(self, child: str) -> None:
        """End a child as a crash would."""
        os.kill(self.pid(child), signal.SIGKILL)

    def log(self, child: str) -> str:
        """Return a child's log."""
        return (self.directory / "data" / "logs" / f"{child}.log").read_text()

    @property
    def tenant(self) -> dict[str, str]:
        """The demo tenant."""
        found: dict[str, str] = self.ready["tenant"]
        return found

    def postlane(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a verb of the command against this system, as its operator."""
        result = subprocess.run(
            [sys.executable, "-m", "services", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call the management API as the operator."""
        headers = {"Authorization": f"Bearer {self.ready['operator']['api_key']}"}
        options = {"timeout": 60, **options}
        return httpx.request(method, self.ready["http"] + path, headers=headers, trust_env=False, **options)

    def trust(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the development CA and nothing else."""
        return ssl.create_default_context(cafile=self.ready["ca_file"])

    def login(self) -> smtplib.SMTP:
        """Return a session over STARTTLS, logged in as the demo tenant; the caller quits."""
        session = smtplib.SMTP("127.0.0.1", self.ready["smtp"]["port"], timeout=30)
        session.starttls(context=self.trust())
        session.login(self.tenant["username"], self.tenant["password"])
        return session

    def may_send(self) -> bool:
        """Whether ingress has heard of all that the demo tenant has, which is made last."""
        try:
            session = self.login()
        except smtplib.SMTPAuthenticationError:
            return False
        try:
            return session.mail(f"app@{self.tenant['domain']}")[0] == 250
        finally:
            session.close()

    def message(self, to: str, marker: str, body: str = "Hello.") -> bytes:
        """Return a plain message of the demo tenant whose subject is the marker."""
        return (
            f"From: App <app@{self.tenant['domain']}>\r\nTo: <{to}>\r\nSubject: {marker}\r\n"
            f"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{marker}@{self.tenant['domain']}>\r\n\r\n{body}\r\n"
        ).encode()

    def submit(self, session: smtplib.SMTP, to: str, marker: str) -> tuple[int, str]:
        """Send one message; return code and text of the final reply."""
        session.mail(f"app@{self.tenant['domain']}")
        code, text = session.rcpt(to)
        if code != 250:
            return code, text.decode()
        code, text = session.data(self.message(to, marker))
        return code, text.decode()

    def send(self, to: str, marker: str) -> str:
        """Send one message that must be accepted; return its queue ID."""
        session = self.login()
        try:
            code, text = self.submit(session, to, marker)
        finally:
            session.quit()
        assert code == 250, text
        return queue_id_of(text)

    @property
    def maildir(self) -> Path:
        """Where the sandbox keeps what it accepted."""
        return Path(self.ready["sandbox"]["maildir"])

    def arrived(self) -> list[bytes]:
        """Return every message in the sandbox's Maildir."""
        for entry in os.scandir(self.maildir / "new"):
            if entry.name not in self._read:  # a file of a Maildir is never changed
                self._read[entry.name] = Path(entry.path).read_bytes()
        return list(self._read.values())

    def status(self, queue_id: str, *, with_acceptance: bool = True) -> str:
        """Return a message's status as the tracker knows it, "" until it knows of the acceptance too if that is wanted.

        They come by two streams: a message may be known as delivered before its subject and its sender are.
        """
        answer = self.api("GET", f"/v1/postlane/messages/{queue_id}")
        if answer.status_code != httpx.codes.OK:
            return ""
        known = answer.json()
        accepted = any(entry["what"] == "accepted" for entry in known["timeline"])
        return str(known["status"]) if accepted or not with_acceptance else ""

    def may_be_twice(self, queue_id: str) -> bool:
        """Whether the timeline marks a possible duplicate."""
        described = self.api("GET", f"/v1/postlane/messages/{queue_id}").json()
        return any(recipient.get("possible_duplicate", False) for recipient in described.get("recipients", ()))


def queue_id_of(reply: str) -> str:
    """Return the queue ID in a 250 reply."""
    marker = "queued as "
    assert marker in reply, reply
    return reply.rpartition(marker)[2].split()[0]
