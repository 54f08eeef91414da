"""The compose project under a name, networks and ports of its own."""

import contextlib
import json
import os
import re
import shutil
import smtplib
import ssl
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.command.ports import free_port
from tests.system import System, eventually

ROOT = Path(__file__).parents[2]
PROJECT = "postlane-test"
UP_SECONDS = 1200
"""To build the image, and to start some twenty containers on two processors."""
TEST_SECONDS = 2400
"""For a test and the stack it has made."""
COUNT_SUBJECTS = (
    "import pathlib\n"
    "for f in pathlib.Path('/var/lib/postlane/sandbox/Maildir/new').iterdir():\n"
    "    for line in f.read_bytes().partition(b'\\r\\n\\r\\n')[0].split(b'\\r\\n'):\n"
    "        if line.lower().startswith(b'subject: '): print(line[9:].decode())\n"
)


def why_not() -> str:
    """Return why the stack cannot be tried here, "" if it can."""
    if shutil.which("docker") is None:
        return "there is no docker client"
    engine = subprocess.run(["docker", "info"], capture_output=True, check=False)
    if engine.returncode != 0:
        return "no container engine answers"
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        return "docker has no compose plugin"
    return ""


class Stack(System):
    """A running stack, spoken to as a client on the host."""

    @classmethod
    @contextlib.contextmanager
    def running(cls, scale: Sequence[str], *more_files: str) -> Iterator["Stack"]:
        """Give tests a stack of their own; they are skipped, with the reason, where there can be none."""
        if reason := why_not():
            pytest.skip(reason)
        stack = cls(*more_files)
        stack.down()
        try:
            stack.up(scale)
            yield stack
        finally:
            stack.down()

    def send_and_follow(self) -> None:
        """Send a message as the guide says, again while that is told to try again, and follow it to its delivery."""
        queued: list[str] = []

        def taken() -> bool:
            result = self.compose("exec", "-T", "guide", "postlane", "send-test")
            queued[:] = re.findall(r"queued as (\S+)", result.stdout)
            refused = re.search(r" answered ([245]\d\d) ", result.stderr)
            assert refused is None or refused[1][0] == "4", result.stderr
            return bool(queued)

        eventually("it is taken", taken, 120)
        assert "delivered" in self.guide("postlane", "track", queued[0], "--follow")

    def __init__(self, *more_files: str) -> None:
        self._files = [part for file in ("compose.yaml", *more_files) for part in ("--file", file)]
        self._ports = {"smtp": free_port(), "smtps": free_port(), "http": free_port(), "nats": free_port()}
        self._compose_environment = {
            **os.environ,
            "POSTLANE_PUBLISH_SUBMISSION": f"127.0.0.1:{self._ports['smtp']}",
            "POSTLANE_PUBLISH_SUBMISSIONS": f"127.0.0.1:{self._ports['smtps']}",
            "POSTLANE_PUBLISH_API": f"127.0.0.1:{self._ports['http']}",
            "POSTLANE_PUBLISH_NATS": f"127.0.0.1:{self._ports['nats']}",
            "POSTLANE_RETRY_WAITS_SECONDS": "2,4,8",
            "POSTLANE_BACK_SUBNET": "172.31.240.0/24",
            "POSTLANE_ALLOWED_NETWORKS": "172.31.240.0/24",
            "POSTLANE_SANDBOX_ADDRESS": "172.31.240.53",
            "POSTLANE_RESOLVERS": "172.31.240.53:5353",
            "POSTLANE_EDGE_SUBNET": "172.31.241.0/24",
            "POSTLANE_BALANCER_ADDRESS": "172.31.241.2",
        }
        self._ca = ""

    def compose(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run docker compose on this project."""
        return subprocess.run(
            ["docker", "compose", *self._files, "--project-name", PROJECT, "--profile", "sandbox", *arguments],
            cwd=ROOT,
            env=self._compose_environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def up(self, scale: Sequence[str]) -> None:
        """Build, start and wait until everything is healthy."""
        scaled = [part for item in scale for part in ("--scale", item)]
        result = self.compose("up", "-d", "--build", "--wait", *scaled, seconds=UP_SECONDS)
        assert result.returncode == 0, (
            result.stderr[-1000:] + self.compose("ps", "-a").stdout + self.compose("logs", "--tail", "40").stdout
        )
        profile = tomllib.loads(self.guide("cat", "/var/lib/postlane/guide/profile.toml"))
        self._ca = self.guide("cat", "/run/postlane/public/ca.pem")
        self.ready = {
            "smtp": {"host": "127.0.0.1", "port": self._ports["smtp"]},
            "http": f"http://127.0.0.1:{self._ports['http']}",
            "operator": {"api_key": profile["api_key"]},
            "tenant": profile,
        }
        eventually("the demo tenant may send", self.may_send)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "20", seconds=300)

    def guide(self, *command: str) -> str:
        """Run a command in the guide's container."""
        result = self.compose("exec", "-T", "guide", *command)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def kill_container(self, name: str) -> None:
        """End a container as a crash would, and have the engine start it again."""
        subprocess.run(["docker", "kill", f"{PROJECT}-{name}"], capture_output=True, check=True, timeout=60)
        subprocess.run(["docker", "start", f"{PROJECT}-{name}"], capture_output=True, check=True, timeout=60)

    def until_healthy(self, service: str) -> None:
        """Wait until a service says that it is well."""

        def healthy() -> bool:
            return "(healthy)" in self.compose("ps", service, "--format", "{{.Status}}").stdout

        eventually(f"{service} is healthy", healthy, 120)

    def set(self, name: str, value: str) -> None:
        """Change a setting of the compose file, for the next `up`."""
        self._compose_environment[name] = value

    def started_at(self, name: str) -> str:
        """Return when a container was last started, in a form that sorts."""
        result = subprocess.run(
            ["docker", "inspect", "--format", "{{.State.StartedAt}}", f"{PROJECT}-{name}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return result.stdout.strip()

    def login(self) -> smtplib.SMTP:
        """Return a session through the balancer, logged in."""
        session = smtplib.SMTP("127.0.0.1", self._ports["smtp"], timeout=30)
        try:
            context = ssl.create_default_context(cadata=self._ca)
            session.starttls(context=context)
            session.login(self.tenant["username"], self.tenant["password"])
        except BaseException:
            session.close()
            raise
        return session

    def subjects(self) -> list[str]:
        """Return the markers that arrived at the sandbox."""
        result = self.compose("exec", "-T", "sandbox", "python", "-c", COUNT_SUBJECTS)
        return result.stdout.split()

    def client_address(self, queue_id: str) -> str:
        """Return the client's address as ingress saw it."""
        answer = self.api("GET", f"/v1/postlane/messages/{queue_id}").json()
        return str(
            answer.get("client_address") or json.loads(json.dumps(answer["timeline"][0]["event"]))["client_address"]
        )
