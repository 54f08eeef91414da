"""A sender domain loses its record and gets it back, while verifiers and the bus die: mail waits, and arrives once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.command.workspace import Workspace
from tests.system import System, eventually
from tests.tenants import Tenant

INTERVALS = {
    "POSTLANE_VERIFIER_DEGRADED_SECONDS": "0.5",
    "POSTLANE_VERIFIER_GRACE_SECONDS": "12",
    "POSTLANE_VERIFIER_FAILURES_TO_SUSPEND": "4",
    "POSTLANE_VERIFIER_LEASE_SECONDS": "20",
}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the module a system whose domains are degraded for a while before they are suspended."""
    running = System(tmp_path_factory.mktemp("story"), **INTERVALS).start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def second(relay: System) -> Iterator[subprocess.Popen[bytes]]:
    """Give a test another verifier beside the one of `up`; that one is started again when it dies, this one is not."""
    workspace = Workspace(relay.directory / "data")
    dns = relay.ready["sandbox"]["dns"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")},
        "POSTLANE_BUS_URL": relay.ready["nats"],
        "POSTLANE_BUS_USER": "verifier",
        "POSTLANE_BUS_PASSWORD_FILE": str(workspace.secret_file("bus-verifier")),
        "POSTLANE_VERIFIER_RESOLVERS": f"{dns['host']}:{dns['port']}",
        "POSTLANE_VERIFIER_EGRESS_ADDRESSES": "192.0.2.25",
        "POSTLANE_VERIFIER_VERIFIED_SECONDS": "3",
        "POSTLANE_VERIFIER_DNS_CACHE_SECONDS": "1",
        "POSTLANE_VERIFIER_REPLICA": "second",
        "POSTLANE_HEALTH_LISTEN": "",
        **INTERVALS,
    }
    with (relay.directory / "second.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "services", "serve", "verifier"], env=environment,
                                   stdout=log, stderr=log)  # fmt: skip
    yield process
    process.kill()
    process.wait()


def state(tenant: Tenant) -> str:
    """Return a tenant's standing."""
    return str(tenant.overview()["state"])


def test_a_record_is_lost_and_returns_while_verifier_and_bus_die(
    relay: System, second: subprocess.Popen[bytes]
) -> None:
    """Degraded, suspended, held, released: with a verifier killed, and the bus killed while mail is held."""
    tenant = Tenant(relay, "story.example").ready()
    spf = next(r["value"] for r in tenant.made(tenant.own + "/records?look=last", method="GET")["records"]
               if r["kind"] == "spf")  # fmt: skip
    before = tenant.send("before")
    tenant.remove(tenant.domain, "TXT")
    eventually("degraded", lambda: state(tenant) == "degraded")
    degraded = tenant.send("while-degraded")
    relay.kill("verifier")
    eventually("suspended", lambda: state(tenant) == "suspended", 60)
    assert "There is no SPF record at story.example" in tenant.overview()["missing"][0]

    held = [tenant.send(f"held-{number}") for number in range(3)]
    eventually("held", lambda: {relay.status(queue_id) for queue_id in held} == {"held"})
    relay.kill("nats-server")
    eventually("the bus is back", lambda: bool(relay.status(held[0])) and _accepts(tenant), 60)
    eventually("they are held still", lambda: [relay.status(queue_id) for queue_id in held] == ["held"] * 3)
    assert not any(tenant.copies(f"held-{number}") for number in range(3))

    tenant.set(tenant.domain, "TXT", spf)
    eventually("verified", lambda: state(tenant) == "verified", 60)
    sent = (before, degraded, *held)
    eventually("delivered", lambda: {relay.status(queue_id) for queue_id in sent} == {"delivered"}, 60)
    tenant.arrived("after-the-bus-died")
    eventually("nothing waits", lambda: relay.api("GET", "/v1/postlane/queue").json()["total"] == 0)
    for marker in ("before", "while-degraded", "held-0", "held-1", "held-2"):
        assert len(tenant.copies(marker)) == 1, marker
    assert second.poll() is None


def _accepts(tenant: Tenant) -> bool:
    """Whether ingress takes mail, to be held; it may refuse for a moment after the bus was away."""
    try:
        return tenant.submit("after-the-bus-died")[0] == 250
    except OSError:
        return False


def test_an_operator_suspends_while_no_verifier_runs(relay: System, second: subprocess.Popen[bytes]) -> None:
    """New mail is refused and queued mail held, with the operator's words; both end with the suspension."""
    tenant = Tenant(relay, "stopped.example").ready()
    os.kill(relay.pid("verifier"), signal.SIGSTOP)
    second.send_signal(signal.SIGSTOP)
    try:
        queued = tenant.send("queued", "defer+8x@inbox.example")  # not taken before the command is done
        eventually("deferred", lambda: relay.status(queued) == "deferred")
        relay.postlane(
            "domain", "suspend", tenant.domain, "--reason", "too many complaints", "--instance", tenant.instance
        )
        eventually("refused", lambda: tenant.submit("refused")[0] == 550)
        assert "5.7.1" in tenant.submit("refused")[1]
        eventually("held", lambda: relay.status(queued) == "held")
        assert not tenant.copies("queued")
        relay.postlane("domain", "resume", tenant.domain, "--instance", tenant.instance)
        eventually("accepted again", lambda: tenant.submit("accepted")[0] == 250)
        eventually("released", lambda: relay.status(queued) == "delivered", 120)
        tenant.arrived("accepted")
        assert len(tenant.copies("queued")) == 1
        assert not tenant.copies("refused")
    finally:
        os.kill(relay.pid("verifier"), signal.SIGCONT)
        second.send_signal(signal.SIGCONT)
