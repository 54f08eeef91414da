"""The verifier's processes against a real nats-server and a real DNS server on loopback."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.bus.service import ask
from shared.contract import requests
from shared.contract.errors import RequestFailed
from shared.contract.requests import Verified, VerifyNow
from tests import verifier_world
from tests.bus_server import BusServer
from tests.dns_server import DnsServer
from tests.patience import ended, until, until_seen
from tests.verifier_world import SECONDS, SPF, World, configuration, heard, publish, world_of


@pytest.fixture
async def world(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[World]:
    """Give a test a world with nothing started in it but bus and DNS."""
    async with world_of(bus_server, tmp_path) as made:
        yield made


async def test_a_standing_goes_its_whole_way_and_each_change_is_broadcast_once(world: World) -> None:
    """Pending, verified, degraded, suspended, verified again, deleted: with the broadcasts the gates listen to."""
    ingress = await world.server.connect("ingress")
    events = await heard(ingress, "postlane.suspension.*")
    world.dns.remove("tenant.example", "TXT")
    await world.verifier()
    await world.directory.create("configuration.c-1", configuration())

    pending = await world.checked_again("c-1")
    assert pending.state == "pending"
    assert "publish the TXT record 'v=spf1 include:spf.postlane.example -all'" in pending.reason
    publish(world.dns)
    verified = await world.until("c-1", "verified")
    assert verified.spf is not None
    assert (verified.spf.resolver, verified.spf.rcode, verified.spf.values) == (world.dns.where, "NOERROR", (SPF,))
    world.dns.remove("tenant.example", "TXT")
    await world.until("c-1", "degraded", "suspended")
    suspended = await world.until("c-1", "suspended")
    assert "There is no SPF record at tenant.example" in suspended.reason
    publish(world.dns)
    await world.until("c-1", "verified")
    await world.directory.delete("configuration.c-1")
    await until("four broadcasts", lambda: len(events) >= 4, SECONDS)
    await world.until_gone("c-1")

    moves = [(event["was"], event["now"]) for event in events]
    assert moves == [
        ("pending", "verified"), ("verified", "degraded"), ("degraded", "suspended"), ("suspended", "verified"),
    ]  # fmt: skip
    await ingress.close()


async def test_verify_now_answers_with_the_standing_after_a_fresh_check(world: World) -> None:
    """On demand the cache is bypassed, so what was just published counts at once."""
    world.dns.ttl = 3600
    world.dns.remove("tenant.example", "TXT")
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(PENDING_SECONDS="3600", VERIFIED_SECONDS="3600", FIRST_CHECK_SPREAD_SECONDS="3600")
    await world.until("c-1", "pending")
    request = VerifyNow(configuration="c-1")
    before = await ask(world.control, requests.VERIFY, request, Verified, 15)
    assert before.standing.state == "pending"

    publish(world.dns)
    after = await ask(world.control, requests.VERIFY, request, Verified, 15)

    assert after.standing.state == "verified"
    assert (await world.until("c-1", "verified")) == after.standing
    with pytest.raises(RequestFailed) as refusal:
        await ask(world.control, requests.VERIFY, VerifyNow(configuration="nobody"), Verified, 15)
    assert refusal.value.code == 2001


SLOW = """
import asyncio
from services.verifier import app
serve = app.serve
async def slow(*arguments):
    await asyncio.sleep(1)
    return await serve(*arguments)
app.serve = slow
"""


async def test_whoever_sees_a_standing_may_ask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier changes nothing that others can see before it answers, however long it takes to get there."""
    monkeypatch.setattr(verifier_world, "RUN", SLOW + verifier_world.RUN)
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(FIRST_CHECK_SPREAD_SECONDS="3600")
    await world.until("c-1", "pending")
    answer = await ask(world.control, requests.VERIFY, VerifyNow(configuration="c-1"), Verified, 15)
    assert answer.standing.state == "verified"


async def test_a_domain_that_does_not_exist_is_not_verified_until_it_does(world: World) -> None:
    """Its records alone will not do: receivers refuse mail from a domain without address and exchanger."""
    world.dns.remove("tenant.example", "A")
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier()
    await world.until("c-1", "pending")
    waiting = await world.checked_again("c-1")
    assert waiting.state == "pending"
    assert "no A, AAAA or MX record" in waiting.reason

    world.dns.set("tenant.example", "MX", "10 mail.tenant.example.")

    await world.until("c-1", "verified")
    world.dns.remove("tenant.example", "MX")
    assert (await world.checked_again("c-1")).state == "verified"


async def test_replicas_share_the_work_and_no_check_is_done_twice(world: World) -> None:
    """Three replicas, forty new configurations: each DKIM record is asked for once."""
    names = [f"t{n}" for n in range(40)]
    for name in names:
        publish(world.dns, f"{name}.example")
        await world.directory.create(f"configuration.{name}", configuration(name, f"{name}.example"))
    quiet = {"VERIFIED_SECONDS": "3600", "PENDING_SECONDS": "3600", "FIRST_CHECK_SPREAD_SECONDS": "3"}
    patient = {"DNS_TIMEOUT_SECONDS": "30", "CHECK_TIMEOUT_SECONDS": "60", "LEASE_SECONDS": "120"}
    for _ in range(3):
        await world.verifier(**quiet, **patient)

    for name in names:
        await world.until(name, "verified")

    asked = Counter(name for name, _, _ in world.dns.asked if "_domainkey" in name)
    assert asked == {f"s1._domainkey.{name}.example": 1 for name in names}


async def test_a_check_whose_replica_was_killed_is_done_by_another(world: World) -> None:
    """Kill -9 in the middle of a check: the lease runs out and the other replica takes over and announces."""
    ingress = await world.server.connect("ingress")
    events = await heard(ingress, "postlane.suspension.*")
    world.dns.fail("s1._domainkey.tenant.example", "TIMEOUT")
    slow = {"DNS_TIMEOUT_SECONDS": "30", "CHECK_TIMEOUT_SECONDS": "5", "PENDING_SECONDS": "3600"}
    victim = await world.verifier(**slow)
    await world.directory.create("configuration.c-1", configuration())
    await until("it checks", lambda: any("_domainkey" in name for name, _, _ in world.dns.asked), SECONDS)
    victim.kill()
    world.dns.fail("s1._domainkey.tenant.example", None)
    await world.verifier(PENDING_SECONDS="3600")

    verified = await world.until("c-1", "verified")

    assert verified.checked_at is not None
    await until("it is told", lambda: any(event["now"] == "verified" for event in events), SECONDS)
    assert ("unknown", "pending") in [(event["was"], event["now"]) for event in events]
    await ingress.close()


async def test_a_suspension_and_its_end_survive_restarts_of_bus_and_verifiers(world: World) -> None:
    """Two replicas, one killed, nats-server killed and started in between: the standing follows DNS all the same."""
    first = await world.verifier()
    await world.verifier()
    await world.directory.create("configuration.c-1", configuration())
    await world.until("c-1", "verified")
    world.dns.remove("tenant.example", "TXT")
    await world.until("c-1", "degraded", "suspended")
    first.kill()
    world.server.kill()
    world.server.start()
    await world.until("c-1", "suspended")
    world.server.kill()
    publish(world.dns)
    world.server.start()
    await world.until("c-1", "verified")


async def test_a_new_key_is_looked_for_at_once(world: World) -> None:
    """A changed selector or key does not wait for the interval of a verified domain."""
    await world.verifier(VERIFIED_SECONDS="36000", GRACE_SECONDS="3600")
    await world.directory.create("configuration.c-1", configuration())
    await world.until("c-1", "verified")
    entry = await world.directory.get("configuration.c-1")
    assert entry is not None
    rotated = msgspec.structs.replace(entry.record, selector="s2")
    await world.directory.update("configuration.c-1", rotated, entry.revision)
    degraded = await world.until("c-1", "degraded")
    assert "s2._domainkey.tenant.example" in degraded.reason


async def test_configurations_made_and_deleted_while_no_verifier_ran_are_found(world: World) -> None:
    """At its start a replica compares directory, standings and schedule."""
    await world.directory.create("configuration.c-1", configuration())
    await world.directory.create("configuration.c-2", configuration("c-2", "two.example"))
    publish(world.dns, "two.example")
    first = await world.verifier()
    await world.until("c-1", "verified")
    await world.until("c-2", "verified")
    first.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(first.wait(), SECONDS) == 0
    await world.directory.delete("configuration.c-1")
    await world.directory.create("configuration.c-3", configuration("c-3", "two.example"))

    await world.verifier()

    await world.until("c-3", "verified")
    await world.until_gone("c-1")
    assert (await world.until("c-2", "verified")).configuration == "c-2"


async def test_slow_domains_do_not_hold_up_checks_on_demand(world: World) -> None:
    """Somebody's dead zone is being waited for; another's check on demand is answered meanwhile."""
    world.dns.fail("dead.example", "TIMEOUT")
    await world.directory.create("configuration.dead", configuration("dead", "dead.example"))
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(DNS_TIMEOUT_SECONDS="60", CHECK_TIMEOUT_SECONDS="60", LEASE_SECONDS="120")
    await world.until("c-1", "verified")
    waiting = asyncio.create_task(ask(world.control, requests.VERIFY, VerifyNow(configuration="dead"), Verified, 30))

    def both_wait() -> bool:
        return sum(name == "dead.example" and kind == "TXT" for name, kind, _ in world.dns.asked) >= 2

    await until("both wait", both_wait, SECONDS)

    answer = await ask(world.control, requests.VERIFY, VerifyNow(configuration="c-1"), Verified, 15)

    assert answer.standing.state == "verified"
    assert not waiting.done()
    await ended(waiting)
    world.processes[0].kill()


async def test_records_are_described_with_what_to_publish_and_what_changed(world: World) -> None:
    """For the customer: the merged SPF record, the evidence, and the history in sentences."""
    world.dns.set("tenant.example", "TXT", "v=spf1 mx include:spf.postlane.example ~all")
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(GRACE_SECONDS="3600")
    await world.until("c-1", "verified")
    world.dns.set("tenant.example", "TXT", "v=spf1 mx ~all")
    await world.until("c-1", "degraded")
    request = requests.DescribeRecords(configuration="c-1", authorities=True)

    async with asyncio.timeout(SECONDS):
        while not (told := await ask(world.control, requests.RECORDS, request, requests.RecordsSeen, 15)).changes:
            await asyncio.sleep(0.05)

    assert told.spf_to_publish == "v=spf1 mx include:spf.postlane.example ~all"
    assert (told.spf.verdict, told.dkim.verdict, told.dmarc.verdict) == ("fail", "pass", "fail")
    assert told.changes[0].startswith("tenant.example lost include:spf.postlane.example between ")
    assert told.authorities == ()
    assert told.history[0].observation.values == ("v=spf1 mx ~all",)


async def test_domains_whose_name_servers_are_silent_do_not_delay_the_others(world: World) -> None:
    """Twenty silent domains, four checks at a time: a domain that answers is still checked at its interval."""
    for number in range(20):
        world.dns.fail(f"dead{number}.example", "TIMEOUT")
        await world.directory.create(
            f"configuration.dead{number}", configuration(f"dead{number}", f"dead{number}.example")
        )
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(CHECKS_AT_ONCE="4", DNS_TIMEOUT_SECONDS="60", CHECK_TIMEOUT_SECONDS="0.5")
    await world.until("c-1", "verified")
    for number in range(20):

        async def checked(name: str = f"dead{number}") -> bool:
            present = await world.present(name)
            return present is not None and present.spf is not None

        await until_seen(f"dead{number} is checked", checked, SECONDS)

    world.dns.asked.clear()
    await world.checked_again("c-1", times=10)
    asked = Counter(name for name, _, _ in world.dns.asked)
    often = max(asked[f"s1._domainkey.dead{number}.example"] for number in range(20))
    assert asked["s1._domainkey.tenant.example"] > 2 * often

    assert (await world.until("dead0", "pending")).state == "pending"


async def test_not_knowing_for_too_long_raises_an_alarm_and_changes_nothing(world: World) -> None:
    """A zone that answers SERVFAIL on and on: somebody is told with the domain's name, and mail flows on."""
    await world.verifier(UNKNOWN_ALARM_SECONDS="1", STALE_SECONDS="60")
    await world.directory.create("configuration.c-1", configuration())
    await world.until("c-1", "verified")
    assert "DNS has not been able to say" not in world.told()
    world.dns.fail("tenant.example", "SERVFAIL")
    await until("the alarm", lambda: "tenant.example: DNS has not been able to say since" in world.told(), SECONDS)
    present = await world.present("c-1")
    assert present is not None
    assert present.state == "verified"
    assert present.unknown_since is not None
    world.dns.fail("tenant.example", None)

    async def known_again() -> bool:
        present = await world.present("c-1")
        return present is not None and present.unknown_since is None

    await until_seen("DNS says again", known_again, SECONDS)


async def test_each_name_server_of_the_zone_is_told_apart(world: World) -> None:
    """One server of the zone has lost the record, the other still serves it: whoever asks is told which."""
    async with DnsServer(host="127.0.0.2", port=world.dns.port) as late:
        publish(late)
        world.dns.set("tenant.example", "NS", "ns1.tenant.example.", "ns2.tenant.example.")
        world.dns.set("ns1.tenant.example", "A", "127.0.0.1")
        world.dns.set("ns2.tenant.example", "A", "127.0.0.2")
        places = {"AUTHORITY_PORT": str(world.dns.port), "AUTHORITY_PRIVATE_NETWORKS": "127.0.0.0/8"}
        await world.verifier(**places, GRACE_SECONDS="3600")
        await world.directory.create("configuration.c-1", configuration())
        await world.until("c-1", "verified")
        world.dns.remove("tenant.example", "TXT")
        await world.until("c-1", "degraded")
        request = requests.DescribeRecords(configuration="c-1", authorities=True)

        told = await ask(world.control, requests.RECORDS, request, requests.RecordsSeen, 15)

    seen = {(each.resolver, each.name): (each.verdict, each.values) for each in told.authorities}
    assert seen["ns1.tenant.example (127.0.0.1)", "tenant.example"] == ("fail", ())
    assert seen["ns2.tenant.example (127.0.0.2)", "tenant.example"] == ("pass", (SPF,))
    assert seen["ns1.tenant.example (127.0.0.1)", "s1._domainkey.tenant.example"][0] == "pass"
    assert len(seen) == 4
    (note,) = told.notes
    assert note.startswith("The zone's name servers disagree about tenant.example: right at ns2.tenant.example (")
    assert note.endswith("missing or wrong at ns1.tenant.example (127.0.0.1).")


async def test_a_full_store_ends_no_verifier(world: World) -> None:
    """Nothing can be written: the same process goes on, and does its checks when there is room again."""
    verifier = await world.verifier()
    await world.directory.create("configuration.c-1", configuration())
    await world.until("c-1", "verified")
    world.server.file_store = "1K"
    world.server.kill()
    world.server.start()
    await until("nothing can be stored", lambda: "insufficient resources" in world.told(), SECONDS)
    assert verifier.returncode is None, world.told()
    world.dns.remove("tenant.example", "TXT")
    world.server.file_store = "4GB"
    world.server.kill()
    world.server.start()
    await world.until("c-1", "suspended")
    assert verifier.returncode is None
