"""Captured mail by API: listed, shown and handed out to its own tenant, and to nobody else."""

import asyncio
from datetime import UTC, datetime

import msgspec

from shared.contract import subjects
from shared.contract.events import MessageCaptured
from tests.control_world import Tenant, World

MAIL = b"DKIM-Signature: x\r\nFrom: a@d.example\r\nSubject: reset\r\n\r\nlink \xff\r\n"


def keep(world: World, tenant: Tenant, queue_id: str) -> None:
    """Keep a message of a tenant, as delivery does."""
    event = MessageCaptured(
        id=f"{queue_id}.captured", at=datetime.now(UTC), queue_id=queue_id, instance=tenant.id,
        configuration=tenant.configuration, sender="app@d.example", recipients=("ann@x.example",), mail=MAIL,
    )  # fmt: skip

    async def store() -> None:
        bus = await world.bus.connect("delivery")
        where = subjects.captured(tenant.id, tenant.configuration, queue_id)
        await bus.store(where, msgspec.json.encode(event), stream="CAPTURED", expected_last=0)
        await bus.close()

    asyncio.run(store())


def test_captured(world: World) -> None:
    """Newest first, with limit and total; content octet for octet; another tenant sees as if there were nothing."""
    mine, other = world.tenant(), world.tenant()
    older, newer = "0" * 29 + "1", "0" * 29 + "2"
    keep(world, mine, older)
    keep(world, mine, newer)
    path = f"/v1/postlane/instances/{mine.id}/captured"
    found = mine.manager.request("GET", path).json()
    assert [message["queue_id"] for message in found["messages"]] == [newer, older]
    assert (found["messages"][0]["recipients"], found["messages"][0]["size"]) == (["ann@x.example"], len(MAIL))
    one = mine.manager.request("GET", path, params={"limit": 1, "configuration": mine.configuration}).json()
    assert (len(one["messages"]), one["total"]) == (1, 2)
    assert mine.manager.request("GET", path, params={"configuration": "none"}).json()["total"] == 0
    assert mine.manager.request("GET", path, params={"limit": 0}).status_code == 400
    shown = mine.manager.request("GET", f"{path}/{newer}").json()
    assert "Subject: reset" in shown["text"]
    assert not shown["cut"]
    whole = mine.manager.request("GET", f"{path}/{newer.lower()}/eml")
    assert (whole.content, whole.headers["content-type"]) == (MAIL, "message/rfc822")
    for nobody in (path, f"{path}/{newer}", f"{path}/{newer}/eml"):
        assert other.manager.request("GET", nobody).status_code == 404
    foreign = f"/v1/postlane/instances/{other.id}/captured"
    assert other.manager.request("GET", foreign).json()["total"] == 0
    for unknown in (newer, "nonsense", "0" * 30):
        assert other.manager.request("GET", f"{foreign}/{unknown}").status_code == 404


def test_readers_see_no_content(world: World) -> None:
    """A key that may only read lists with masked addresses and gets no mail."""
    mine = world.tenant()
    keep(world, mine, "0" * 29 + "3")
    path = f"/v1/postlane/instances/{mine.id}/captured"
    (message,) = mine.reader.request("GET", path).json()["messages"]
    assert message["recipients"] != ["ann@x.example"]
    assert mine.reader.request("GET", f"{path}/{message['queue_id']}").status_code == 403
    assert mine.reader.request("GET", f"{path}/{message['queue_id']}/eml").status_code == 403
