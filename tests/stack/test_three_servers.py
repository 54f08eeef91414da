"""The stack with three nats-servers: one of them goes, one loses its disk, and mail is taken and delivered."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.stack.stack import PROJECT, TEST_SECONDS, Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(TEST_SECONDS)]

SERVERS = ("nats", "nats-2", "nats-3")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Give the tests one running stack."""
    with Stack.running((), "deploy/three-servers.yaml") as running:
        yield running


def test_each_server_may_be_away(stack: Stack) -> None:
    """While one is stopped the other two take mail and deliver it."""
    stack.send_and_follow()
    for server in SERVERS:
        assert stack.compose("stop", server).returncode == 0
        assert server not in stack.compose("ps", "--services", "--status", "running").stdout.split()
        stack.send_and_follow()
        assert stack.compose("start", server).returncode == 0
        stack.until_healthy(server)


def test_a_server_may_lose_its_disk(stack: Stack) -> None:
    """It comes back with an empty one and is filled; then it keeps what the others lose."""
    assert stack.compose("rm", "--stop", "--force", SERVERS[1]).returncode == 0
    subprocess.run(["docker", "volume", "rm", f"{PROJECT}_store-2"], capture_output=True, check=True, timeout=60)
    stack.send_and_follow()
    assert stack.compose("up", "-d", "--no-deps", "--wait", SERVERS[1]).returncode == 0
    assert stack.compose("stop", SERVERS[2]).returncode == 0
    stack.send_and_follow()
