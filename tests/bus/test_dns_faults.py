"""Every fault DNS has in store, in real packets, and what becomes of a verified standing after many checks of it."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from services.verifier.authorities import Authorities
from services.verifier.checker import Checker
from services.verifier.core.answer import Absent, Question, Records, Unknown
from services.verifier.core.spf import Limits
from services.verifier.core.spf_merge import merge
from services.verifier.core.standing import Policy, apply, fresh
from services.verifier.resolver import QueryLimits, Resolver, split_server
from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Standing, StandingState
from tests.dns_server import DnsServer, Fault, quoted
from tests.patience import tasks_of_a_block, until, until_seen

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DOMAIN, NAME = "tenant.example", "s1._domainkey.tenant.example"
KEY = base64.b64encode(bytes(range(256)) + b"as long as a key of RSA-2048 is").decode()
OURS = f"v=DKIM1; k=rsa; p={KEY}"
SPF = "v=spf1 include:spf.relay.example -all"
EGRESS = ("192.0.2.1", "192.0.2.2")
CONFIGURATION = Configuration(
    id="c-1", instance="i-1", name="n", domain=DOMAIN, selector="s1", dkim_value=OURS, spf_value=SPF,
    created_at=NOW, updated_at=NOW,
)  # fmt: skip
POLICY = Policy(grace=timedelta(minutes=20), failures_to_suspend=3, stale_after=timedelta(minutes=30))
QUICK = QueryLimits(timeout_seconds=0.15, tries=1, per_second=1000, unknown_seconds=0)
"""For a server that says nothing; on a busy machine one that answers may be taken for it."""
PATIENT = replace(QUICK, timeout_seconds=30)
SILENT: set[Fault] = {"TIMEOUT", "WRONG_ID", "GARBAGE", "WRONG_QUESTION"}


class Clock:
    """A clock the test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Return the time it shows."""
        return self.now


def publish(dns: DnsServer) -> None:
    dns.set("spf.relay.example", "TXT", "v=spf1 ip4:192.0.2.0/29 -all")
    dns.set(DOMAIN, "TXT", SPF, "some-verification=1")
    dns.set(DOMAIN, "A", "192.0.2.80")
    dns.set(NAME, "TXT", OURS)


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    """Give a test a DNS server with everything published as it should be."""
    async with DnsServer() as server:
        publish(server)
        yield server


def checker_of(
    *servers: DnsServer, clock: Clock | None = None, timeout_seconds: float = 60, limits: QueryLimits = PATIENT
) -> Checker:
    resolver = Resolver([server.where for server in servers], limits)
    return Checker(resolver, EGRESS, "relay.example", Limits(questions=60), timeout_seconds, clock or Clock())


async def after_checks(
    *servers: DnsServer,
    checks: int = 5,
    start: StandingState = "verified",
    of: Configuration | None = None,
    on: Standing | None = None,
    limits: QueryLimits = PATIENT,
) -> Standing:
    """Return a standing after so many checks, ten minutes apart on a clock that is turned."""
    clock = Clock()
    checker = checker_of(*servers, clock=clock, limits=limits)
    configuration = of or CONFIGURATION
    standing = on or msgspec.structs.replace(fresh(configuration, NOW), state=start)
    for _ in range(checks):
        standing = apply(standing, await checker.inspect(configuration), POLICY).standing
        clock.now += timedelta(minutes=10)
    return standing


UNKNOWN: list[Fault] = [
    "SERVFAIL", "BOGUS", "REFUSED", "TIMEOUT", "TRUNCATED", "LAME", "EMPTY", "WRONG_ID", "GARBAGE", "WRONG_QUESTION",
]  # fmt: skip


@pytest.mark.parametrize("name", [DOMAIN, NAME, "spf.relay.example"])
@pytest.mark.parametrize("fault", UNKNOWN)
async def test_what_is_not_an_answer_never_moves_a_standing(dns: DnsServer, fault: Fault, name: str) -> None:
    """D01, D11: unknown at the SPF name, the DKIM name or an include keeps a verified standing, and says since when."""
    dns.fail(name, fault)
    standing = await after_checks(dns, limits=QUICK if fault in SILENT else PATIENT)
    assert (standing.state, standing.failures, standing.unknown_since) == ("verified", 0, NOW)
    dns.fail(name, None)
    assert (await after_checks(dns, checks=1)).unknown_since is None


@pytest.mark.parametrize("fault", UNKNOWN)
@pytest.mark.parametrize("state", ["pending", "degraded", "suspended"])
async def test_what_is_not_an_answer_verifies_nobody_either(dns: DnsServer, fault: Fault, state: StandingState) -> None:
    """D01: unknown is not good news; the state stays what it is."""
    dns.fail(NAME, fault)
    limits = QUICK if fault in SILENT else PATIENT
    assert (await after_checks(dns, start=state, checks=2, limits=limits)).state == state


@pytest.mark.parametrize("name", [DOMAIN, NAME, "spf.relay.example"])
@pytest.mark.parametrize("fault", ["NXDOMAIN", "NODATA"])
async def test_certain_absence_degrades_then_suspends_and_returns(dns: DnsServer, fault: Fault, name: str) -> None:
    """D02, D03, D04: once is degraded, often enough is suspended, and the record's return is enough to send again."""
    dns.fail(name, fault, "TXT")
    once = await after_checks(dns, checks=1)
    assert (once.state, once.failures) == ("degraded", 1)
    often = await after_checks(dns)
    assert often.state == "suspended"
    assert name in often.reason
    dns.fail(name, None, "TXT")
    assert (await after_checks(dns, start="degraded", checks=1)).state == "verified"
    assert (await after_checks(dns, start="suspended", checks=1)).state == "verified"


def txt(dns: DnsServer, *values: str) -> None:
    dns.set(DOMAIN, "TXT", *values)


def cname(dns: DnsServer) -> None:
    dns.remove(DOMAIN, "TXT")
    dns.remove(DOMAIN, "A")
    dns.set(DOMAIN, "CNAME", "parked.example.")
    dns.set("parked.example", "TXT", SPF)


def chained(length: int) -> Callable[[DnsServer], None]:
    def change(dns: DnsServer) -> None:
        names = [DOMAIN, *(f"n{i}.example" for i in range(1, length + 1))]
        for name, after in pairwise(names):
            dns.set(name, "TXT", f"v=spf1 include:{after} -all")
        dns.set(names[-1], "TXT", "v=spf1 ip4:192.0.2.0/29 -all")

    return change


def spf(*values: str) -> Callable[[DnsServer], None]:
    return lambda dns: txt(dns, *values)


IN_ORDER = "ip4:192.0.2.0/29"
SPF_CASES: list[tuple[str, Callable[[DnsServer], None], str]] = [
    ("two records", spf(SPF, f"v=spf1 {IN_ORDER} -all"), "fail"),
    ("v=spf10", spf(f"v=spf10 {IN_ORDER} -all"), "fail"),
    ("v=spf10 beside ours", spf(SPF, "v=spf10 -all"), "pass"),
    ("upper case", spf(SPF.upper()), "pass"),
    ("trailing spaces", spf(SPF + "   "), "pass"),
    ("our include as text only, after -all", spf("v=spf1 -all include:spf.relay.example"), "fail"),
    ("our include in a look-alike", spf("v=spf1 include:spf.relay.example.evil.example -all"), "fail"),
    ("our include negated", spf("v=spf1 -include:spf.relay.example ~all"), "fail"),
    ("addresses listed instead of the include", spf(f"v=spf1 {IN_ORDER} -all"), "pass"),
    ("only one of two addresses", spf("v=spf1 ip4:192.0.2.1 -all"), "fail"),
    ("neutral", spf("v=spf1 ?all"), "fail"),
    ("include 10 deep", chained(10), "pass"),
    ("include 11 deep", chained(11), "fail"),
    ("chain of 300", chained(300), "fail"),
    ("include loop", spf(f"v=spf1 include:{DOMAIN} -all"), "fail"),
    ("2 void look-ups", spf(f"v=spf1 a:x1.example a:x2.example {IN_ORDER} -all"), "pass"),
    ("3 void look-ups", spf(f"v=spf1 a:x1.example a:x2.example a:x3.example {IN_ORDER} -all"), "fail"),
    ("redirect", spf("v=spf1 redirect=spf.relay.example"), "pass"),
    ("redirect beside all", spf("v=spf1 redirect=spf.relay.example -all"), "fail"),
    ("macro i", spf("v=spf1 exists:%{i}.spf.relay.example -all"), "pass"),
    ("ptr", spf("v=spf1 ptr:relay.example -all"), "pass"),
    ("cname at the name", cname, "pass"),
    ("syntax error", spf("v=spf1 include:spf.relay.example -al"), "fail"),
]


@pytest.mark.parametrize(("change", "verdict"), [c[1:] for c in SPF_CASES], ids=[c[0] for c in SPF_CASES])
async def test_spf_is_evaluated_for_every_sending_address(
    dns: DnsServer, change: Callable[[DnsServer], None], verdict: str
) -> None:
    """D05: the result of RFC 7208 in at most 20 questions, and the standing that follows from it."""
    for address in EGRESS:
        dns.set(f"{address}.spf.relay.example", "A", "127.0.0.2")
        reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
        dns.set(reverse, "PTR", f"out{address[-1]}.relay.example.")
        dns.set(f"out{address[-1]}.relay.example", "A", address)
    change(dns)
    found = await checker_of(dns).inspect(CONFIGURATION)
    assert found.spf.verdict == verdict, found.spf.detail
    assert len(dns.asked) <= 20
    assert (await after_checks(dns)).state == ("verified" if verdict == "pass" else "suspended")


@pytest.mark.parametrize("at", range(1, 40))
async def test_strings_cut_anywhere_are_one_record(dns: DnsServer, at: int) -> None:
    """D05, D06: records are joined from strings without spaces, wherever they were cut."""
    dns.set(DOMAIN, "TXT", quoted(SPF, at))
    dns.set(NAME, "TXT", quoted(OURS, at))
    assert (await checker_of(dns).inspect(CONFIGURATION)).verdict == "pass"


def dkim(*values: str) -> Callable[[DnsServer], None]:
    return lambda dns: dns.set(NAME, "TXT", *values)


def delegated(dns: DnsServer) -> None:
    dns.remove(NAME, "TXT")
    dns.set(NAME, "CNAME", "c-1.keys.relay.example.")
    dns.set("c-1.keys.relay.example", "TXT", OURS)


def dangling(dns: DnsServer) -> None:
    dns.remove(NAME, "TXT")
    dns.set(NAME, "CNAME", "gone.keys.relay.example.")


def looping(dns: DnsServer) -> None:
    dns.remove(NAME, "TXT")
    dns.set(NAME, "CNAME", "b.example.")
    dns.set("b.example", "CNAME", f"{NAME}.")


DKIM_CASES: list[tuple[str, Callable[[DnsServer], None], str]] = [
    ("spaces in the key", dkim(OURS.replace(KEY, " ".join(KEY[i : i + 40] for i in range(0, len(KEY), 40)))), "pass"),
    ("v= missing", dkim(f"k=rsa; p={KEY}"), "pass"),
    ("revoked", dkim("v=DKIM1; k=rsa; p="), "fail"),
    ("another key", dkim("v=DKIM1; k=rsa; p=" + KEY[::-1].replace("=", "A") + "A"), "fail"),
    ("t=y", dkim(f"v=DKIM1; t=y; k=rsa; p={KEY}"), "pass"),
    ("h=sha1", dkim(f"v=DKIM1; h=sha1; p={KEY}"), "fail"),
    ("k=ed25519", dkim(f"v=DKIM1; k=ed25519; p={KEY}"), "fail"),
    ("cname to ours", delegated, "pass"),
    ("cname to nothing", dangling, "fail"),
    ("cname loop", looping, "unknown"),
    ("two keys", dkim(OURS, "v=DKIM1; p=" + KEY[::-1].replace("=", "A")), "fail"),
    ("a stranger beside ours", dkim(OURS, "verification=1"), "pass"),
]


@pytest.mark.parametrize(("change", "verdict"), [c[1:] for c in DKIM_CASES], ids=[c[0] for c in DKIM_CASES])
async def test_dkim_is_valid_if_the_published_key_is_ours(
    dns: DnsServer, change: Callable[[DnsServer], None], verdict: str
) -> None:
    """D06: what receivers need is judged, and the standing follows from it."""
    change(dns)
    found = await checker_of(dns).inspect(CONFIGURATION)
    assert found.dkim.verdict == verdict, found.dkim.detail
    assert (await after_checks(dns)).state == ("suspended" if verdict == "fail" else "verified")


async def test_a_failure_only_one_of_two_resolvers_shows_is_unknown(dns: DnsServer) -> None:
    """D02: a failure is asked again elsewhere; disagreement changes nothing and is told."""
    async with DnsServer() as other:
        publish(other)
        dns.fail(DOMAIN, "NXDOMAIN", "TXT")
        standing = await after_checks(dns, other)
        assert standing.state == "verified"
        assert standing.spf is not None
        assert "disagree" in standing.spf.detail
        other.fail(DOMAIN, "NXDOMAIN", "TXT")
        assert (await after_checks(dns, other)).state == "suspended"


async def test_of_what_a_zone_serves_only_so_much_is_kept(dns: DnsServer) -> None:
    """A tenant's zone of huge records takes no room's memory, and the record to publish is not made of a piece."""
    huge = "v=spf1 " + " ".join(f"exists:n{number}.{'x' * 60}.example" for number in range(150))
    dns.set(DOMAIN, "TXT", huge)
    dns.set(NAME, "TXT", *(f"p={number}{'y' * 500}" for number in range(20)))
    standing = await after_checks(dns)
    assert len(msgspec.json.encode(standing)) < 15_000
    assert standing.spf is not None
    assert standing.spf.values, standing.spf.detail
    assert standing.spf.values[0].endswith("(and so on)")
    assert merge(standing.spf.values, SPF).value == SPF
    dns.set(DOMAIN, "TXT", f"v=spf1 a:{'z' * 12_000}.example -all")
    assert len(msgspec.json.encode(await after_checks(dns))) < 15_000


async def test_a_next_key_that_one_resolver_does_not_know_yet_suspends_nobody(dns: DnsServer) -> None:
    """The customer replaced the record, and the first resolver still remembers that there was none: the next key signs.

    Once it was seen, silence about it changes nothing; its certain absence does.
    """
    at = f"s2._domainkey.{DOMAIN}"
    rotating = msgspec.structs.replace(CONFIGURATION, next_key=PublishedKey(selector="s2", value=OURS, since=NOW))
    async with DnsServer() as other:
        publish(other)
        other.set(at, "TXT", OURS)
        for server in (dns, other):
            server.remove(NAME, "TXT")
        standing = await after_checks(dns, other, of=rotating)
        assert standing.state == "verified"
        assert standing.next_dkim is not None
        assert (standing.next_dkim.verdict, standing.next_dkim.resolver) == ("pass", other.where)
        for server in (dns, other):
            server.fail(at, "SERVFAIL")
        silent = await after_checks(dns, other, of=rotating, on=standing)
        assert (silent.state, silent.next_dkim) == ("verified", standing.next_dkim)
        assert silent.unknown_since is not None
        for server in (dns, other):
            server.fail(at, "NXDOMAIN")
        assert (await after_checks(dns, other, of=rotating, on=silent)).state == "suspended"


async def test_with_one_of_two_resolvers_dead_checks_go_on(dns: DnsServer) -> None:
    """A resolver that does not answer costs time once, and neither verdicts nor suspensions."""
    async with DnsServer() as dead:
        for name in ("", "example", DOMAIN, NAME, "spf.relay.example"):
            dead.fail(name, "TIMEOUT")
        limits = replace(QUICK, timeout_seconds=1.5)
        assert (await after_checks(dead, dns, limits=limits)).state == "verified"
        dns.remove(NAME, "TXT")
        assert (await after_checks(dead, dns, limits=limits)).state == "suspended"


async def test_a_forged_reply_is_not_believed(dns: DnsServer) -> None:
    """D11: a reply with the wrong ID is passed over, one that lost the question's case is asked for again over TCP."""
    resolver = Resolver([dns.where], PATIENT)
    dns.fail(DOMAIN, "FORGED_FIRST")
    answer = await resolver.ask(Question(DOMAIN, "TXT"))
    assert isinstance(answer, Records)
    assert SPF in answer.values
    dns.fail(NAME, "LOWER_CASE")
    assert isinstance(await resolver.ask(Question(NAME, "TXT")), Records)
    assert [transport for name, _, transport in dns.asked if name == NAME] == ["udp", "tcp"]


async def test_an_answer_too_long_for_a_packet_is_fetched_over_tcp(dns: DnsServer) -> None:
    """Truncated with TCP is an answer like any other."""
    dns.set(DOMAIN, "TXT", SPF, *(f"filler-{i}-" + "x" * 200 for i in range(20)))
    assert (await checker_of(dns).inspect(CONFIGURATION)).spf.verdict == "pass"


async def test_answers_are_kept_for_their_ttl_and_not_longer_than_the_setting(dns: DnsServer) -> None:
    """D07: a TTL of 0 is never kept, one of a week no longer than the setting."""
    question = Question(DOMAIN, "TXT")
    resolver = Resolver([dns.where], PATIENT)
    await resolver.ask(question)
    await resolver.ask(question)
    assert len(dns.asked) == 2
    dns.ttl = 7 * 24 * 3600
    for _ in range(3):
        await resolver.ask(question)
    assert len(dns.asked) == 3
    assert isinstance(await resolver.ask(question, fresh=True), Records)
    assert len(dns.asked) == 4
    forgetful = Resolver([dns.where], replace(PATIENT, cache_seconds=0.2))

    async def asked_twice() -> bool:
        await forgetful.ask(question)
        return len(dns.asked) == 6

    await until_seen("it is asked again", asked_twice)


async def test_the_same_question_at_the_same_time_is_asked_once(dns: DnsServer) -> None:
    """A thousand domains that include the same name cost one question."""
    dns.ttl = 60
    resolver = Resolver([dns.where], PATIENT)
    answers = await asyncio.gather(*(resolver.ask(Question("spf.relay.example", "TXT")) for _ in range(200)))
    assert all(isinstance(answer, Records) for answer in answers)
    assert len(dns.asked) == 1


async def test_a_dead_zone_delays_nobody(dns: DnsServer) -> None:
    """D10: while many checks wait for a zone that does not answer, others are answered at once."""
    dns.fail("dead.example", "TIMEOUT")
    resolver = Resolver([dns.where], QueryLimits(timeout_seconds=30, tries=1, per_second=1000, in_flight=200))
    async with tasks_of_a_block() as tasks:
        waiting = [tasks.create_task(resolver.ask(Question("dead.example", "TXT"), fresh=True)) for _ in range(150)]
        await until("all wait", lambda: sum(name == "dead.example" for name, _, _ in dns.asked) == 150)
        async with asyncio.timeout(20):
            assert isinstance(await resolver.ask(Question(DOMAIN, "TXT")), Records)
        assert not any(task.done() for task in waiting)


async def test_a_check_ends_in_time_and_unknown_however_slow_dns_is(dns: DnsServer) -> None:
    """D05: the time of one check is bounded, and running out of it is nobody's failure."""
    dns.fail("spf.relay.example", "TIMEOUT")
    resolver = Resolver([dns.where], QueryLimits(timeout_seconds=30, tries=3))
    checker = Checker(resolver, EGRESS, "relay.example", Limits(), 2.0, Clock())
    async with asyncio.timeout(20):
        found = await checker.inspect(CONFIGURATION)
    assert (found.spf.verdict, found.dkim.verdict) == ("unknown", "pass")


async def test_a_domain_that_does_not_exist_is_told_so(dns: DnsServer) -> None:
    """The advice names the records that are missing; one of them is enough."""
    dns.remove(DOMAIN, "A")
    assert "no A, AAAA or MX record" in (await checker_of(dns).inspect(CONFIGURATION)).advice
    dns.set(DOMAIN, "MX", "10 mail.tenant.example.")
    assert (await checker_of(dns).inspect(CONFIGURATION)).advice == ""


async def test_all_records_are_described_with_what_they_cost(dns: DnsServer) -> None:
    """SPF, DKIM and DMARC as they are, the look-ups of the whole record, and the TXT values to merge with."""
    dns.set(DOMAIN, "TXT", "v=spf1 a mx include:spf.relay.example exists:x.example -all", "other")
    dns.set("_dmarc.tenant.example", "TXT", "v=DMARC1; p=reject")
    told = await checker_of(dns).describe(CONFIGURATION)
    assert (told.spf.verdict, told.dkim.verdict, told.dmarc.verdict) == ("pass", "pass", "pass")
    assert told.lookups == 4
    assert "other" in told.published
    assert told.dmarc.detail.endswith("the policy reject.")


async def test_each_name_server_of_the_zone_is_asked_and_only_where_it_may_be(dns: DnsServer) -> None:
    """A zone whose servers disagree shows it; a server at an address that is not public is never asked."""
    async with DnsServer() as one, DnsServer(host="127.0.0.2", port=one.port) as two:
        publish(one)
        dns.set(DOMAIN, "NS", "ns1.tenant.example.", "ns2.tenant.example.")
        dns.set("ns1.tenant.example", "A", one.host)
        dns.set("ns2.tenant.example", "A", two.host)
        resolver = Resolver([dns.where], PATIENT)
        question = Question(NAME, "TXT")
        assert await Authorities(resolver, one.port, ()).ask(question) == ()
        assert (one.asked, two.asked) == ([], [])

        served = await Authorities(resolver, one.port, ("127.0.0.0/8",)).ask(question)

        assert {s.server: type(s.answer) for s in served} == {
            "ns1.tenant.example (127.0.0.1)": Records, "ns2.tenant.example (127.0.0.2)": Absent,
        }  # fmt: skip
        verdicts = {}
        for server, answer in served:
            seen = await checker_of(dns).describe(CONFIGURATION, known={question: answer})
            verdicts[server[:3]] = seen.dkim.verdict
        assert verdicts == {"ns1": "pass", "ns2": "fail"}


async def test_a_port_nobody_listens_on_is_unknown() -> None:
    """A server that refuses packets is no proof of anything."""
    async with DnsServer() as gone:
        where = gone.where
    answer = await Resolver([where], QUICK).ask(Question(DOMAIN, "TXT"))
    assert isinstance(answer, Unknown)


async def test_an_empty_answer_is_believed_from_a_forwarder_only_if_told_to(dns: DnsServer) -> None:
    """Some forwarders strip the SOA; a setting says that ours is one of them."""
    dns.fail(DOMAIN, "EMPTY")
    trusting = replace(PATIENT, trust_bare=True)
    assert isinstance(await Resolver([dns.where], trusting).ask(Question(DOMAIN, "TXT")), Absent)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[::1]", ("::1", 53)),
        ("sandbox:5353", ("sandbox", 5353)),
        ("sandbox:", ("sandbox", 53)),
    ],
)
def test_servers_are_written_as_host_and_port(text: str, parts: tuple[str, int]) -> None:
    """Every usual form is understood."""
    assert split_server(text) == parts


@pytest.mark.parametrize("text", ["", ":53", "host:x", "host:0", "host:70000", "[::1", "[::1]x"])
def test_other_forms_of_servers_are_refused(text: str) -> None:
    """A server that cannot be meant is a fault of the settings."""
    with pytest.raises(ValueError, match="not of the form"):
        split_server(text)
