"""Notices to contacts on a real bus: each thing is told once, whatever dies in between."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from shared.bus.kv import Bucket
from shared.contract.events import NoticeRequested
from shared.contract.records import Authorization, Questionnaire
from shared.contract.standing import OwedNotice, Standing
from tests.bus_server import BusServer
from tests.patience import until_seen
from tests.verifier_world import NOW, SECONDS, World, configuration, publish, world_of

CONTACTS = ("dns@tenant.example", "post@tenant.example")
AUTHORIZATION = Authorization(
    configuration="c-1", instance="i-1", status="submitted", submitted_at=NOW,
    questionnaire=Questionnaire(
        nature="transactional", website="https://tenant.example/", list_source="x", bounces_and_complaints="x",
        unsubscribe="x", quota_rationale="x", list_cleaning="x", contacts=CONTACTS, reply_to="r@tenant.example",
        only_to_requesters=True, unsubscribe_link=True,
    ),
)  # fmt: skip


@pytest.fixture
async def world(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[World]:
    """Give a test a world whose tenant has handed in the questionnaire."""
    async with world_of(bus_server, tmp_path) as made:
        await made.directory.create("authorization.c-1", AUTHORIZATION)
        yield made


async def notices(world: World) -> list[NoticeRequested]:
    """Return every notice that was ever asked for; no delivery runs here, so all are still in the stream."""
    bus = await world.server.connect("provision")
    try:
        found = [stored.payload async for stored in bus.scan("NOTICES", "postlane.notice.>")]
    finally:
        await bus.close()
    return [msgspec.json.decode(payload, type=NoticeRequested) for payload in found]


async def settled(world: World) -> None:
    """Wait until nothing is owed any more."""

    async def nothing_owed() -> bool:
        present = await world.present("c-1")
        return present is not None and not present.owed

    await until_seen("nothing is owed", nothing_owed, SECONDS)


async def test_contacts_are_told_of_each_change_once(world: World) -> None:
    """Verified, degraded, suspended, resumed: four notices to the contacts, with what was seen and what to publish."""
    await world.verifier()
    await world.verifier()
    await world.directory.create("configuration.c-1", configuration())
    await world.until("c-1", "verified")
    world.dns.remove("tenant.example", "TXT")
    await world.until("c-1", "suspended")
    publish(world.dns)
    await world.until("c-1", "verified")
    await settled(world)
    await world.checked_again("c-1")

    told = await notices(world)

    assert [each.subject for each in told] == [
        "tenant.example: the DNS records are in order",
        "tenant.example: DNS records are failing, sending will be suspended",
        "tenant.example: sending is suspended",
        "tenant.example: sending goes on",
    ]
    assert {each.recipients for each in told} == {CONTACTS}
    assert "There is no SPF record at tenant.example" in told[1].text
    assert "tenant.example  TXT  v=spf1 include:spf.postlane.example -all" in told[2].text


async def test_killed_verifiers_and_a_killed_bus_neither_lose_nor_repeat_a_notice(world: World) -> None:
    """Each of three replicas dies at some moment, the bus in the middle of it all."""
    await world.directory.create("configuration.c-1", configuration())
    first, second = await world.verifier(), await world.verifier()
    await world.until("c-1", "verified")
    first.kill()
    world.dns.remove("tenant.example", "TXT")
    await world.until("c-1", "degraded", "suspended")
    second.kill()
    world.server.kill()
    world.server.start()
    third = await world.verifier()
    await world.until("c-1", "suspended")
    third.kill()
    await world.verifier()
    publish(world.dns)
    await world.until("c-1", "verified")
    await settled(world)
    await world.checked_again("c-1")

    counted = Counter(each.subject.partition(": ")[2] for each in await notices(world))

    assert counted == {
        "the DNS records are in order": 1,
        "DNS records are failing, sending will be suspended": 1,
        "sending is suspended": 1,
        "sending goes on": 1,
    }
    assert len({each.id for each in await notices(world)}) == 4


async def test_a_notice_that_a_dead_verifier_owed_is_asked_for_by_the_next(world: World) -> None:
    """What stands in the record is asked for by whoever checks next, under the identity the first would have used."""
    await world.directory.create("configuration.c-1", configuration())
    victim = await world.verifier(VERIFIED_SECONDS="1")
    verified = await world.until("c-1", "verified")
    await settled(world)
    (asked_for,) = await notices(world)
    victim.kill()
    await victim.wait()
    entry = await world.standing.get("c-1")
    assert entry is not None
    verifier = await world.server.connect("verifier")
    owed = OwedNotice(kind="verified", at=verified.since, reason=verified.reason)
    standings: Bucket[Standing] = Bucket(verifier, "standing", Standing)
    await standings.update("c-1", msgspec.structs.replace(entry.record, owed=(owed,)), entry.revision)

    await world.verifier(VERIFIED_SECONDS="1")
    await settled(world)

    assert [each.id for each in await notices(world)] == [asked_for.id]
    await verifier.close()


async def test_waiting_too_long_is_told_once(world: World) -> None:
    """The records never appear: one notice, however many checks follow."""
    world.dns.remove("tenant.example", "TXT")
    await world.directory.create("configuration.c-1", configuration())
    await world.verifier(WAITING_NOTICE_SECONDS="0.6")

    async def told_so() -> bool:
        return bool(await notices(world))

    await until_seen("it is told", told_so, SECONDS)
    await world.checked_again("c-1")

    (told,) = await notices(world)

    assert told.subject == "tenant.example: the DNS records have not been found"
    assert "up to 72 hours" in told.text
    assert "tenant.example  TXT  v=spf1 include:spf.postlane.example -all" in told.text
