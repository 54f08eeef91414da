"""MTA-STS, end to end: real DNS packets, a real HTTPS server, real TLS with exchangers."""

import asyncio
import datetime
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.delivery.exchangers import Exchangers
from services.delivery.policies import Policies
from shared.contract.events import AnyStatus, MessageAttempted
from shared.runtime.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, ensure_certificates
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import delivering
from tests.delivery.policy_host import PolicyHost, policy
from tests.delivery.world import World
from tests.patience import ended, tasks_of_a_block


class Authority:
    """Makes server contexts that the process trusts, and others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bundle = directory / "trusted.pem"
        self.bundle.touch()
        self._made = 0

    def context(self, *names: str, trusted: bool = True) -> ssl.SSLContext:
        """Return the context of a server with these names."""
        self._made += 1
        home = self.directory / f"certificate-{self._made}"
        ensure_certificates(home, names, datetime.datetime.now(datetime.UTC))
        if trusted:
            self.bundle.write_bytes(self.bundle.read_bytes() + (home / CA_FILE).read_bytes())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home / CERTIFICATE_FILE, home / KEY_FILE)
        return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Give a test certificates; the processes made afterwards trust them."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.bundle))
    return made


@pytest.fixture
async def host(world: World, authority: Authority) -> AsyncIterator[PolicyHost]:
    """Give a test a policy host that enforces `mx.rcpt.test`, published in DNS."""
    async with PolicyHost(authority.context("mta-sts.rcpt.test"), policy("enforce")) as made:
        world.dns.set("_mta-sts.rcpt.test", "TXT", "v=STSv1; id=1;")
        world.dns.set("mta-sts.rcpt.test", "A", "127.0.0.1")
        yield made


async def sent(world: World, host: PolicyHost, *wanted: str, **settings: object) -> AnyStatus:
    """Send one message through a delivery of its own, until it has one of these states."""
    values = {"retry_waits_seconds": (3600,), "mta_sts_port": host.port, "mta_sts_fetch_seconds": 30.0} | settings
    async with delivering(world.server, world.settings(**values)):
        envelope = await world.tenant.accept("x@rcpt.test")
        return await world.watcher.until(envelope, *wanted)


async def test_enforced_and_met(world: World, host: PolicyHost, authority: Authority) -> None:
    """Delivered over verified TLS; the record names policy, TLS version, cipher and verification; asked for once."""
    world.exchanger.tls = authority.context("mx.rcpt.test")
    for _ in range(2):
        event = await sent(world, host, "delivered")
        assert isinstance(event, MessageAttempted)
        (tried,) = event.exchangers
        assert (tried.policy, tried.tls_verified, tried.tls_problem) == ("MTA-STS enforce 1", True, "")
        assert tried.tls.startswith("TLSv1.")
        assert " " in tried.tls  # and its cipher
    assert host.connections == 1  # the second process found the policy in the bucket
    assert host.requests[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n")
    assert b"\r\nhost: mta-sts.rcpt.test\r\n" in host.requests[0].lower()
    assert all(message.tls for message in world.exchanger.received)


def _no_tls(world: World, authority: Authority) -> None:
    world.exchanger.tls = None


def _unsigned(world: World, authority: Authority) -> None:
    world.exchanger.tls = authority.context("mx.rcpt.test", trusted=False)


def _other_name(world: World, authority: Authority) -> None:
    world.exchanger.tls = authority.context("other.rcpt.test")


def _refused(world: World, authority: Authority) -> None:
    world.exchanger.tls = authority.context("mx.rcpt.test")
    world.exchanger.script["STARTTLS"] = [(b"454 4.7.0 not now\r\n",)]


BREACHES: dict[str, tuple[Callable[[World, Authority], None], str]] = {
    "no STARTTLS": (_no_tls, "does not offer STARTTLS"),
    "a certificate nobody signed": (_unsigned, "does not verify"),
    "another name": (_other_name, "does not verify"),
    "STARTTLS refused": (_refused, "STARTTLS failed"),
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_enforced_and_not_met(breach: str, world: World, host: PolicyHost, authority: Authority) -> None:
    """Nothing of the message leaves: 4.7.5, it waits, and the record says why. The control goes through."""
    prepare, why = BREACHES[breach]
    prepare(world, authority)
    event = await sent(world, host, "deferred", "delivered")
    assert isinstance(event, MessageAttempted)
    (recipient,) = event.recipients
    assert recipient.last is not None
    assert (recipient.status, recipient.last.enhanced) == ("deferred", "4.7.5")
    assert why in recipient.last.text
    assert event.exchangers[0].policy == "MTA-STS enforce 1"
    assert why in event.exchangers[0].tls_problem
    assert world.exchanger.uses(b"MAIL") == []
    host.body = policy("none")
    world.dns.set("_mta-sts.rcpt.test", "TXT", "v=STSv1; id=2;")
    await sent(world, host, "delivered")


async def test_enforced_to_the_end(world: World, host: PolicyHost, authority: Authority) -> None:
    """A policy that is not met to the end of a message's life ends it: never in clear, and the reason is kept."""
    limits = {"retry_waits_seconds": (0.3,), "lifetime_seconds": 2.0}
    event = await sent(world, host, "expired", "delivered", **limits)
    (recipient,) = event.recipients
    assert recipient.last is not None
    assert (recipient.status, recipient.last.enhanced) == ("expired", "4.7.5")
    assert recipient.attempts >= 1
    assert world.exchanger.uses(b"MAIL") == []


async def test_an_exchanger_the_policy_does_not_name(world: World, host: PolicyHost, authority: Authority) -> None:
    """It is not even connected to; the next one that is named gets the message."""
    world.exchanger.tls = authority.context("mx.rcpt.test", "mx2.rcpt.test")
    host.body = policy("enforce", "mx2.rcpt.test")
    event = await sent(world, host, "deferred")
    last = event.recipients[0].last
    assert last is not None
    assert (last.enhanced, last.host) == ("4.7.5", "mx.rcpt.test")
    assert world.exchanger.connections == 0
    world.dns.set("rcpt.test", "MX", "10 mx.rcpt.test.", "20 mx2.rcpt.test.")
    world.dns.set("mx2.rcpt.test", "A", "127.0.0.1")
    event = await sent(world, host, "delivered")
    assert isinstance(event, MessageAttempted)
    assert [tried.host for tried in event.exchangers] == ["mx2.rcpt.test"]


async def test_the_next_exchanger_after_a_bad_one(world: World, host: PolicyHost, authority: Authority) -> None:
    """A named exchanger whose TLS fails does not stop the message: another one has it verified."""
    host.body = policy("enforce", "*.rcpt.test")
    second = await Exchanger(tls=authority.context("mx2.rcpt.test")).start("127.0.0.2", world.exchanger.port)
    async with second:
        world.dns.set("rcpt.test", "MX", "10 mx.rcpt.test.", "20 mx2.rcpt.test.")
        world.dns.set("mx2.rcpt.test", "A", "127.0.0.2")
        event = await sent(world, host, "delivered")
        assert isinstance(event, MessageAttempted)
        assert [(tried.host, tried.enhanced[0]) for tried in event.exchangers] == [
            ("mx.rcpt.test", "4"),
            ("mx2.rcpt.test", "2"),
        ]
        assert world.exchanger.uses(b"MAIL") == []
        assert len(second.received) == 1


async def test_testing_only_notes(world: World, host: PolicyHost, authority: Authority) -> None:
    """A policy in testing delivers as ever, and the record says what would have failed."""
    host.body = policy("testing", "elsewhere.test")
    world.exchanger.tls = authority.context("mx.rcpt.test", trusted=False)
    event = await sent(world, host, "delivered")
    assert isinstance(event, MessageAttempted)
    tried = event.exchangers[-1]
    assert (tried.policy, tried.tls_verified) == ("MTA-STS testing 1", False)
    assert "does not name" in tried.tls_problem


async def test_a_kept_policy_outlives_dns_and_web(world: World, host: PolicyHost, authority: Authority) -> None:
    """Withdrawn, unreachable or broken: what was promised stays in force until it expires; a new id replaces it."""
    world.exchanger.tls = authority.context("mx.rcpt.test")
    await sent(world, host, "delivered")
    world.exchanger.tls = None
    world.dns.remove("_mta-sts.rcpt.test", "TXT")
    assert (await sent(world, host, "deferred")).recipients[0].last is not None
    world.dns.fail("_mta-sts.rcpt.test", "SERVFAIL")
    await sent(world, host, "deferred")
    world.dns.fail("_mta-sts.rcpt.test", None)
    world.dns.set("_mta-sts.rcpt.test", "TXT", "v=STSv1; id=2;")
    host.status = "500 Broken"
    await sent(world, host, "deferred")
    host.status, host.body = "200 OK", policy("testing")
    event = await sent(world, host, "delivered")
    assert isinstance(event, MessageAttempted)
    assert event.exchangers[-1].policy == "MTA-STS testing 2"


@asynccontextmanager
async def policies(world: World, host: PolicyHost, **settings: object) -> AsyncIterator[Policies]:
    """Make one replica's policies."""
    values = {"mta_sts_port": host.port, "mta_sts_fetch_seconds": 30.0} | settings
    made_with = world.settings(**values)
    made = Policies(made_with, world.watcher.bus, Exchangers(made_with))
    async with tasks_of_a_block() as tasks:
        await made.replica.start(tasks)
        yield made


FAILURES: dict[str, dict[str, object]] = {
    "404": {"status": "404 Not Found"},
    "redirect": {"status": "302 Found", "more": "Location: https://mta-sts.rcpt.test/.well-known/mta-sts.txt\r\n"},
    "HTML": {"kind": "text/html"},
    "too long": {"body": policy() + b"x: " + b"y" * 65_536},
    "compressed": {"more": "Content-Encoding: gzip\r\n"},
    "not a policy": {"body": b"hello"},
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_what_is_not_a_policy(failure: str, world: World, host: PolicyHost) -> None:
    """Only the document itself, from the host itself, counts; a failed fetch is not repeated at once."""
    for name, value in FAILURES[failure].items():
        setattr(host, name, value)
    async with policies(world, host) as made:
        assert not (await made.of("rcpt.test")).policy
        assert not (await made.of("rcpt.test")).policy
    assert host.connections == 1


async def test_a_fetch_that_takes_too_long(world: World, host: PolicyHost) -> None:
    """The time limit ends it; the control, with time enough, gets the policy."""
    host.pause_seconds = 1.0
    async with policies(world, host, mta_sts_fetch_seconds=0.2, mta_sts_retry_seconds=0) as made:
        assert not (await made.of("rcpt.test")).policy
    async with policies(world, host) as made:
        assert (await made.of("rcpt.test")).enforced


async def test_the_certificate_of_the_policy_host(world: World, host: PolicyHost, authority: Authority) -> None:
    """A certificate for another name, or from nobody, gives no policy."""
    for context in (authority.context("rcpt.test"), authority.context("mta-sts.rcpt.test", trusted=False)):
        async with PolicyHost(context, policy()) as wrong, policies(world, wrong) as made:
            assert not (await made.of("rcpt.test")).policy
            assert wrong.requests == []


async def test_a_policy_host_at_a_forbidden_address(world: World, host: PolicyHost) -> None:
    """No packet goes to an address delivery may not reach; switched off, DNS is not even asked."""
    async with policies(world, host, allowed_networks=("127.0.0.2/32",)) as made:
        assert not (await made.of("rcpt.test")).policy
    asked = len(world.dns.asked)
    async with policies(world, host, mta_sts=False) as made:
        assert not (await made.of("rcpt.test")).policy
    assert host.connections == 0
    assert len(world.dns.asked) == asked


async def test_replicas_share_and_many_ask_once(world: World, host: PolicyHost) -> None:
    """Fifty messages at a time lead to one fetch, and a second replica has the policy without one."""
    async with policies(world, host) as first, policies(world, host) as second:
        demands = await asyncio.gather(*(first.of("rcpt.test") for _ in range(50)))
        assert all(demand.enforced for demand in demands)
        async with asyncio.timeout(60):
            while not len(second.replica):
                await asyncio.sleep(0.01)
        assert (await second.of("rcpt.test")).enforced
    assert host.connections == 1


async def test_refresh_and_expiry(world: World, host: PolicyHost) -> None:
    """A kept policy of a certain age is fetched again; one that expired while the host is gone is no policy."""
    async with policies(world, host, mta_sts_refresh_seconds=0.001) as made:
        await made.of("rcpt.test")
        await made.of("rcpt.test")
        assert host.connections == 2
        host.body = policy(max_age=1)
        await made.of("rcpt.test")
        host.status = "503 Gone"
        async with asyncio.timeout(60):
            while (await made.of("rcpt.test")).policy:
                await asyncio.sleep(0.05)


async def test_a_policy_that_ends_at_once_is_not_fetched_for_each_message(world: World, host: PolicyHost) -> None:
    """A policy with a lifetime of nothing is none, and its host is not asked again a moment later."""
    host.body = policy(max_age=0)
    async with policies(world, host) as made:
        for _ in range(5):
            assert not (await made.of("rcpt.test")).policy
    assert host.connections == 1


async def test_a_record_that_changes_with_each_question_holds_up_nobody(
    world: World, host: PolicyHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that wait for a fetch go on with what it came to; they do not fetch one after the other."""
    ids = itertools.count()

    async def texts(_: Exchangers, _name: str) -> tuple[str, ...]:
        return (f"v=STSv1; id={next(ids)};",)

    monkeypatch.setattr(Exchangers, "texts", texts)
    for status in ("503 Gone", "200 OK"):
        host.status, host.connections, host.pause_seconds = status, 0, 0.5
        async with policies(world, host) as made:
            demands = await asyncio.gather(*(made.of("rcpt.test") for _ in range(20)))
        assert host.connections == 1
        assert {demand.enforced for demand in demands} == {status == "200 OK"}


async def test_a_fetch_that_is_broken_off_is_taken_over(world: World, host: PolicyHost) -> None:
    """Whoever waited for it fetches itself: no mail goes as if there were no policy."""
    host.pause_seconds = 0.3
    async with policies(world, host) as made:
        first, second = (asyncio.create_task(made.of("rcpt.test")) for _ in range(2))
        async with asyncio.timeout(20):
            while not host.requests:
                await asyncio.sleep(0.01)
        await ended(first)
        assert (await second).enforced
        assert made._fetching == {}
    assert host.connections == 2
