"""The containers: up at scale, a first tracked message, the client's address, and crashes without loss."""

import ast
import ipaddress
from collections.abc import Iterator

import pytest

from tests.ledger import Submitters
from tests.stack.stack import PROJECT, TEST_SECONDS, Stack
from tests.system import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(TEST_SECONDS)]

SCALE = ("ingress=2", "delivery=3", "verifier=2", "tracker=2", "control=2")
MESSAGES = 1000
KILLED = ("ingress-1", "delivery-1", "verifier-1", "tracker-1", "control-1", "nats-1")
PROXY_ATTEMPT = """
import socket
s = socket.create_connection(("{host}", 2587), 5)
s.settimeout(5)
s.sendall(b"PROXY TCP4 203.0.113.9 203.0.113.10 1234 587\\r\\n")
s.sendall(b"EHLO probe.example\\r\\nQUIT\\r\\n")
heard = b""
try:
    while part := s.recv(4096):
        heard += part
except ConnectionResetError:
    pass  # it was refused before the rest was read
print([line[:3].decode() for line in heard.splitlines()])
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Give the tests one running stack."""
    with Stack.running(SCALE) as running:
        yield running


def test_three_commands_lead_to_a_tracked_message(stack: Stack) -> None:
    """Up, send-test, track --follow: delivered."""
    stack.send_and_follow()


def test_a_client_on_the_host_is_seen_with_its_own_address(stack: Stack) -> None:
    """The balancer's PROXY header carries the address; it is the client's, not the balancer's."""
    queue_id = stack.send("delivered@inbox.example", "from-the-host")
    eventually("tracked", lambda: stack.status(queue_id) != "")

    seen = ipaddress.ip_address(stack.client_address(queue_id))

    assert seen in ipaddress.ip_network("172.31.241.0/24")  # the engine's own gateway stands for the host
    assert seen != ipaddress.ip_address("172.31.241.2")


def test_a_proxy_header_from_anyone_but_the_balancer_is_refused(stack: Stack) -> None:
    """A container beside the balancer cannot pretend to be it."""
    attempt = PROXY_ATTEMPT.format(host=f"{PROJECT}-ingress-1")

    codes = ast.literal_eval(stack.guide("python", "-c", attempt))
    assert codes[0] == "220"
    assert codes[1][0] == "5", "the header is no command, and nothing more"
    # The control: without the header the same container is served.
    plain = attempt.replace('s.sendall(b"PROXY TCP4 203.0.113.9 203.0.113.10 1234 587\\r\\n")', "pass")
    codes = ast.literal_eval(stack.guide("python", "-c", plain))
    assert set(codes) == {"220", "250", "221"}


def test_nothing_accepted_is_lost_when_containers_are_killed(stack: Stack) -> None:
    """1,000 messages while one replica of each service, then nats, is killed and started again."""
    run = Submitters(
        stack, "stack", MESSAGES, 4, lambda n: "defer+1x@inbox.example" if n % 20 == 0 else "delivered@inbox.example"
    )
    run.start()
    for number, name in enumerate(KILLED, start=1):
        wanted = number * MESSAGES // (len(KILLED) + 1)
        eventually(f"{wanted} messages were sent", lambda wanted=wanted: run.sent >= wanted, 240)  # type: ignore[misc]
        stack.kill_container(name)
    run.join(300)
    ledger = run.ledger

    eventually("arrival of everything accepted", lambda: not ledger.missing(stack.subjects()), 180)
    arrived = [marker for marker in stack.subjects() if marker.startswith("stack-")]

    assert ledger.missing(arrived) == set()
    assert ledger.ghosts(arrived) - ledger.unknown == set()
    assert len(ledger.accepted) + len(ledger.refused) == MESSAGES
    assert all(reply[0] == "4" for reply in ledger.refused.values())
    assert len(ledger.accepted) > MESSAGES // 2, "a run that accepts little shows little"
    for marker in ledger.duplicates(arrived).keys() - ledger.unknown:
        # Its client was not cut off before the answer, to send it again: delivery must say that it may have gone twice.
        queue_id = ledger.accepted[marker]
        eventually(f"{marker} is marked", lambda queue_id=queue_id: stack.may_be_twice(queue_id))  # type: ignore[misc]
    print(
        f"accepted {len(ledger.accepted)}, refused {len(ledger.refused)}, duplicates {len(ledger.duplicates(arrived))}"
    )


def test_another_version_of_init_starts_the_bus_anew(stack: Stack) -> None:
    """It has written what the rooms of its version may do; a server that goes on would refuse them."""
    before = stack.started_at("nats-1")
    stack.up(SCALE)
    assert stack.started_at("nats-1") == before, "the control: nothing has changed"

    stack.set("POSTLANE_HOST_NAME", "relay.example")  # as another image would, this makes another `init`
    stack.up(SCALE)

    assert stack.started_at("nats-1") > before
    queue_id = stack.send("delivered@inbox.example", "after-the-upgrade")
    eventually("delivered", lambda: stack.status(queue_id) == "delivered")
