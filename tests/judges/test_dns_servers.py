"""The verifier against name servers it did not bring along: Knot serves the zones, Unbound resolves and validates."""

import asyncio
import base64
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from services.command.ports import free_port
from services.verifier.authorities import Authorities
from services.verifier.checker import Checker
from services.verifier.core.answer import Absent, Question, Records, Unknown
from services.verifier.core.spf import Limits
from services.verifier.core.standing import Policy, apply, fresh
from services.verifier.resolver import QueryLimits, Resolver
from shared.contract.records import Configuration
from shared.contract.standing import StandingState
from tests.dns_server import quoted

pytestmark = pytest.mark.judge
NEEDED = ("knotd", "unbound")
NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = base64.b64encode(bytes(range(256)) + b"as long as a key of RSA-2048 is").decode()
OURS = f"v=DKIM1; k=rsa; p={KEY}"
SPF = "v=spf1 include:spf.relay.example -all"
POLICY = Policy(grace=timedelta(minutes=20), failures_to_suspend=3, stale_after=timedelta(minutes=30))
KNOT = """
server:
    listen: {host}@{port}
    rundir: {place}
    user: root
database:
    storage: {place}
zone:
  - domain: tenant.example
    file: {place}/tenant.example.zone
  - domain: bogus.example
    file: {place}/bogus.example.zone
  - domain: relay.example
    file: {place}/relay.example.zone
"""
UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    port: {port}
    username: ""
    chroot: ""
    directory: "{place}"
    pidfile: "{place}/unbound.pid"
    use-syslog: no
    do-daemonize: no
    do-not-query-localhost: no
    num-threads: 1
    module-config: "validator iterator"
    cache-max-ttl: 0
    cache-max-negative-ttl: 0
    infra-host-ttl: 0
    ede: yes
    local-zone: "example." nodefault
    trust-anchor: "bogus.example. DS 12345 13 2 {digest}"
    domain-insecure: "tenant.example"
    domain-insecure: "relay.example"
remote-control:
    control-enable: no
{stubs}
"""
STUB = "stub-zone:\n    name: {zone}\n    stub-addr: {host}@{port}\n"
HEAD = "$TTL 0\n@ IN SOA ns1 hostmaster 1 60 60 60 0\n@ IN NS ns1\nns1 IN A 127.0.0.1\n"


class Servers:
    """Knot and Unbound of the test's own, ended by it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.knot_port, self.unbound_port = free_port(), free_port()
        self.running: list[subprocess.Popen[bytes]] = []

    def zone(self, name: str, *lines: str) -> None:
        """Write a zone; Knot takes it up with `load`."""
        (self.place / f"{name}.zone").write_text(HEAD + "\n".join(lines) + "\n")

    async def load(self) -> None:
        """Start Knot anew, with the zones as they are written."""
        for process in self.running[1:]:
            process.terminate()
            process.wait(60)
        del self.running[1:]
        config = self.place / "knot.conf"
        config.write_text(KNOT.format(place=self.place, host="127.0.0.1", port=self.knot_port))
        self._start("knotd", "-c", config)
        await self._answers(f"127.0.0.1:{self.knot_port}", "relay.example")

    async def resolve(self) -> None:
        """Start Unbound."""
        closed = free_port()
        stubs = [
            STUB.format(zone=f"{n}.example", host="127.0.0.1", port=self.knot_port)
            for n in ("tenant", "bogus", "relay")
        ]
        stubs.append(STUB.format(zone="lame.example", host="127.0.0.1", port=self.knot_port))
        stubs.append(STUB.format(zone="dead.example", host="127.0.0.1", port=closed))
        config = self.place / "unbound.conf"
        config.write_text(
            UNBOUND.format(place=self.place, port=self.unbound_port, digest="ab" * 32, stubs="".join(stubs))
        )
        self._start("unbound", "-c", config)

    @property
    def where(self) -> str:
        """`host:port` of Unbound."""
        return f"127.0.0.1:{self.unbound_port}"

    def _start(self, program: str, *arguments: str | Path) -> None:
        with (self.place / f"{program}.log").open("ab") as log:
            self.running.append(subprocess.Popen([program, *arguments], stdout=log, stderr=log))

    async def _answers(self, where: str, name: str) -> None:
        resolver = Resolver([where], QueryLimits(timeout_seconds=2, tries=1, unknown_seconds=0))
        async with asyncio.timeout(60):
            while isinstance(await resolver.ask(Question(name, "TXT")), Unknown):
                await asyncio.sleep(0.05)

    async def ready(self) -> None:
        """Wait until Unbound resolves."""
        await self._answers(self.where, "relay.example")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """Give a test both servers with everything published as it should be."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    started = Servers(tmp_path)
    started.zone("relay.example", "@ IN TXT x", f"spf IN TXT {quoted('v=spf1 ip4:192.0.2.0/29 -all')}")
    started.zone("tenant.example", *in_order())
    started.zone("bogus.example", *in_order())
    try:
        await started.resolve()
        await started.load()
        await started.ready()
        yield started
    finally:
        for process in started.running:
            process.terminate()
        for process in started.running:
            process.wait(60)


def in_order() -> tuple[str, ...]:
    return (f"@ IN TXT {quoted(SPF)}", "@ IN A 192.0.2.80", f"s1._domainkey IN TXT {quoted(OURS)}")


def configuration(domain: str) -> Configuration:
    return Configuration(
        id="c-1", instance="i-1", name="n", domain=domain, selector="s1", dkim_value=OURS, spf_value=SPF,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


async def standing_after(servers: Servers, domain: str, checks: int = 5) -> tuple[StandingState, str]:
    """Check a verified domain every ten minutes of a clock that is turned."""
    now = [NOW]
    limits = QueryLimits(timeout_seconds=3, tries=1, unknown_seconds=0)
    checker = Checker(Resolver([servers.where], limits), ("192.0.2.1",), "relay.example", Limits(), 20, lambda: now[0])
    standing = msgspec.structs.replace(fresh(configuration(domain), NOW), state="verified")
    for _ in range(checks):
        standing = apply(standing, await checker.inspect(configuration(domain)), POLICY).standing
        now[0] += timedelta(minutes=10)
    return standing.state, standing.reason


@pytest.mark.parametrize("domain", ["bogus.example", "lame.example", "dead.example"])
async def test_bogus_lame_and_dead_zones_suspend_nobody(servers: Servers, domain: str) -> None:
    """What a validating resolver makes of them is no failure of the customer."""
    state, reason = await standing_after(servers, domain, 4)
    assert state == "verified", reason
    assert "could not be" in reason


LONG = tuple(f"@ IN TXT {quoted(f'filler-{n}-' + 'x' * 200)}" for n in range(20))
CASES: list[tuple[str, tuple[str, ...], StandingState]] = [
    ("in order", in_order(), "verified"),
    ("SPF gone, name still there", in_order()[1:], "suspended"),
    ("DKIM gone", in_order()[:2], "suspended"),
    ("too long for UDP", (*in_order(), *LONG), "verified"),
    ("two SPF records", (*in_order(), "@ IN TXT \"v=spf1 -all\""), "suspended"),
    ("DKIM by CNAME", (*in_order()[:2], "s1._domainkey IN CNAME k", f"k IN TXT {quoted(OURS, 99)}"), "verified"),
    ("DKIM by CNAME to nothing", (*in_order()[:2], "s1._domainkey IN CNAME gone"), "suspended"),
    ("revoked", (*in_order()[:2], "s1._domainkey IN TXT \"v=DKIM1; p=\""), "suspended"),
    ("wildcard that is no key", (*in_order()[:2], "* IN TXT \"v=spf1 -all\""), "suspended"),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "state"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_a_zone_has_the_standing_its_records_deserve(
    servers: Servers, lines: tuple[str, ...], state: StandingState
) -> None:
    """As with the tests' own server, with servers everybody runs."""
    servers.zone("tenant.example", *lines)
    await servers.load()
    assert (await standing_after(servers, "tenant.example"))[0] == state


async def test_the_zone_s_own_server_is_asked_for_evidence(servers: Servers) -> None:
    """Found by its NS record, asked directly."""
    authorities = Authorities(Resolver([servers.where]), servers.knot_port, ("127.0.0.0/8",))
    (served,) = await authorities.ask(Question("s1._domainkey.tenant.example", "TXT"))
    assert served.server == "ns1.tenant.example (127.0.0.1)"
    assert isinstance(served.answer, Records)
    assert served.answer.values == (OURS,)
    (nothing,) = await authorities.ask(Question("s2._domainkey.tenant.example", "TXT"))
    assert isinstance(nothing.answer, Absent)
