"""What control tells contacts, on a real bus."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec

from shared.bus.kv import Bucket
from shared.contract.events import NoticeRequested
from shared.contract.records import DirectoryRecord, Suspension
from tests.control_process import Control
from tests.control_world import ANSWERS, Tenant, World
from tests.system import eventually


def told(world: World, tenant: Tenant) -> list[NoticeRequested]:
    """Return what the contacts of a tenant were told, oldest first."""
    return [each for each in world.notices() if each.configuration == tenant.configuration]


def test_decisions_and_suspensions_are_told_to_the_contacts(world: World) -> None:
    """Approved, suspended, resumed, rejected: one notice each, with the operator's words."""
    tenant = world.tenant()
    tenant.operator.post(f"{tenant.own}/suspend", json={"reason": "too soon"})
    tenant.operator.post(f"{tenant.own}/resume")
    assert told(world, tenant) == []  # nobody is known yet who could be told
    contacts = ["dns@acme.example", "post@acme.example"]
    tenant.manager.put(f"{tenant.own}/authorization", json={**ANSWERS, "contacts": contacts})

    tenant.operator.made(f"{tenant.own}/authorization/approve", {"messages_per_hour": 500}, 200)
    tenant.operator.made(f"{tenant.own}/suspend", {"reason": "complaints"}, 200)
    tenant.operator.post(f"{tenant.own}/resume")
    tenant.operator.made(f"{tenant.own}/authorization/reject", {"reason": "bought list"}, 200)

    notices = [each for each in told(world, tenant) if each.recipients == tuple(contacts)]
    assert [each.subject.partition(": ")[2] for each in notices] == [
        "sending is approved",
        "the operator has suspended sending",
        "the operator's suspension has ended",
        "sending is not approved",
    ]
    assert "500 messages per hour" in notices[0].text
    assert "complaints" in notices[1].text
    assert "bought list" in notices[3].text
    assert len({each.id for each in notices}) == 4


def link_of(notice: NoticeRequested) -> str:
    """Return the path of the link in a mail."""
    (path,) = re.findall(r"http://\S+?(/confirm/\S+)", notice.text)
    return str(path)


def test_the_address_for_reports_is_confirmed_by_whoever_reads_its_mail(world: World) -> None:
    """The questionnaire's address gets a link; looking at it confirms nothing, the button does, and it does so once."""
    tenant = world.tenant()
    answers = {**ANSWERS, "contacts": ["dns@acme.example"], "reply_to": "bounces@elsewhere.example"}
    tenant.manager.put(f"{tenant.own}/authorization", json=answers)
    (notice,) = told(world, tenant)
    assert notice.recipients == ("bounces@elsewhere.example",)
    link = link_of(notice)

    with httpx.Client(base_url=world.other.url, trust_env=False, timeout=60) as stranger:
        # What is done at one replica the other hears of a moment later.
        eventually("the link is known", lambda: stranger.get(link).status_code == 200)
        page = stranger.get(link)
        assert page.headers["content-type"].startswith("text/html")
        assert "bounces@elsewhere.example" in page.text
        assert tenant.reader.get(tenant.own).json()["reply_to"] == ""
        assert stranger.get(link[:-1] + ("A" if link[-1] != "A" else "Q")).status_code == 404
        for _ in range(2):
            assert stranger.post(link, data={}).status_code == 200
        eventually(
            "it is confirmed",
            lambda: tenant.reader.get(tenant.own).json()["reply_to"] == "bounces@elsewhere.example",
        )
        detail = tenant.reader.get(tenant.own).json()
        confirmed_at = detail["reply_to_confirmed_at"]
        assert stranger.post(link).status_code == 200
        assert tenant.reader.get(tenant.own).json()["reply_to_confirmed_at"] == confirmed_at

        tenant.manager.patch(tenant.own, json={"reply_to": "other@elsewhere.example"})
        assert "reply_to_confirmed_at" not in tenant.reader.get(tenant.own).json()
        assert stranger.post(link).status_code == 404  # it was for the address before
        assert told(world, tenant)[-1].recipients == ("other@elsewhere.example",)
        other = link_of(told(world, tenant)[-1])
        eventually("the other link is known", lambda: stranger.get(other).status_code == 200)
        assert stranger.post(other).status_code == 200
    again = f"{tenant.own}/reply-to/confirmation"
    eventually("nothing is left to confirm", lambda: "reply_to_confirmed_at" in tenant.reader.get(tenant.own).json())
    assert tenant.manager.post(again).status_code == 409
    api_token = {"Authorization": f"Bearer {link.rpartition('/')[2]}"}
    answer = httpx.get(f"{world.control.url}/v1/postlane/self", headers=api_token, trust_env=False, timeout=60)
    assert answer.status_code == 401


def test_links_are_not_mailed_without_end(world: World) -> None:
    """Somebody's address is not flooded by a tenant who names it again and again."""
    tenant = world.tenant()
    for number in range(10):
        answer = tenant.manager.patch(tenant.own, json={"reply_to": f"n{number}@elsewhere.example"})
        assert answer.status_code == 200
    assert len(told(world, tenant)) == 6
    assert tenant.manager.post(f"{tenant.own}/reply-to/confirmation").status_code == 429


def test_links_to_one_address_are_bounded_for_all_configurations_together(world: World) -> None:
    """Nor by configurations that are made for it, and removed."""
    tenant, victim = world.tenant(), "Victim@elsewhere.example"
    for number in range(22):
        made = tenant.manager.configuration(tenant.id, f"n{number}.{tenant.domain}")
        own = f"/v1/postlane/instances/{tenant.id}/configurations/{made}"
        address = victim if number % 2 else victim.lower()
        assert tenant.manager.patch(own, json={"reply_to": address}).status_code == 200
        removed = tenant.manager.delete(f"/v1/instances/{tenant.id}/smtp/config/{made}")
        assert removed.status_code in (200, 204), removed.text
    sent = [each for each in world.notices() if [to.lower() for to in each.recipients] == [victim.lower()]]
    assert len(sent) == 20


def test_a_decision_that_a_dead_control_did_not_tell_is_told_by_the_next(world: World) -> None:
    """The decision stands in the directory; a control that starts asks for its notice under the same identity."""
    tenant = world.tenant()
    tenant.manager.put(f"{tenant.own}/authorization", json={**ANSWERS, "contacts": ["dns@acme.example"]})
    approved = tenant.operator.made(f"{tenant.own}/authorization/approve", {}, 200)
    (before,) = [each for each in told(world, tenant) if each.subject.endswith("sending is approved")]

    async def crashed() -> None:
        """Write a suspension as a control would that dies before it has told anybody."""
        bus = await world.bus.connect("control")
        directory: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
        record = Suspension(configuration=tenant.configuration, reason="abuse", by="key:x", at=datetime.now(UTC))
        await directory.put(f"suspension.{tenant.configuration}", record)
        await bus.close()

    asyncio.run(crashed())
    third = Control(world.directory, world.bus)
    third.start()

    def suspended() -> bool:
        return any("suspended sending" in each.subject for each in told(world, tenant))

    eventually("the suspension is told", suspended)
    assert third.stop() == 0
    again = [each for each in told(world, tenant) if each.subject.endswith("sending is approved")]
    assert again == [before]  # the same request, which the stream knows
    assert before.at.isoformat() == datetime.fromisoformat(approved["decided_at"]).isoformat()


def test_an_end_of_a_suspension_that_a_dead_control_began_is_finished_and_told(world: World) -> None:
    """The end is marked before it is told, and told before it is so: the next control goes on from the mark."""
    tenant = world.tenant()
    tenant.manager.put(f"{tenant.own}/authorization", json={**ANSWERS, "contacts": ["dns@acme.example"]})
    tenant.operator.made(f"{tenant.own}/suspend", {"reason": "abuse"}, 200)

    async def crashed() -> None:
        """Mark the suspension as ending as a control would that dies before it has told anybody."""
        bus = await world.bus.connect("control")
        directory: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
        entry = await directory.get(f"suspension.{tenant.configuration}")
        assert entry is not None
        ending = msgspec.structs.replace(entry.record, ending_at=datetime.now(UTC), ending_by="key:x")
        await directory.update(entry.key, ending, entry.revision)
        await bus.close()

    def ended() -> list[NoticeRequested]:
        return [each for each in told(world, tenant) if "has ended" in each.subject]

    asyncio.run(crashed())
    assert "suspension" in tenant.reader.get(tenant.own).json()  # it holds until it is gone
    assert ended() == []
    third = Control(world.directory, world.bus)
    third.start()
    eventually("it ends", lambda: "suspension" not in tenant.reader.get(tenant.own).json())
    assert third.stop() == 0
    (notice,) = ended()
    assert tenant.operator.post(f"{tenant.own}/resume").status_code == 404
    assert ended() == [notice]


def test_a_full_store_ends_no_control_and_delays_the_end_of_a_suspension(tmp_path: Path) -> None:
    """A control that starts with a suspension to end and no room for it serves, says so, and ends it later."""
    world = World(tmp_path)
    try:
        tenant = world.tenant()

        async def crashed() -> None:
            bus = await world.bus.connect("control")
            directory: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
            at = datetime.now(UTC)
            record = Suspension(
                configuration=tenant.configuration, reason="abuse", by="key:x", at=at, ending_at=at, ending_by="key:x"
            )
            await directory.put(f"suspension.{tenant.configuration}", record)
            await bus.close()

        def with_room_for(octets: str) -> None:
            world.bus.stop()
            world.bus.file_store = octets
            world.bus.start()

        def refused() -> bool:
            answer = tenant.operator.post(f"{tenant.own}/suspend", json={"reason": "more"})
            return answer.status_code == 503 and answer.json()["errors"][0]["code"] == "store_full"

        asyncio.run(crashed())
        with_room_for("1K")
        third = Control(tmp_path, world.bus)
        third.start()
        eventually("a change is refused", refused)
        eventually("the end is put off", lambda: "cannot be ended yet" in third.log.read_text())
        with_room_for("4GB")
        eventually("it ends", lambda: f"suspension.{tenant.configuration}" not in world.records())
        assert third.stop() == 0
    finally:
        world.close()
