"""A delivery of this version beside rooms of a later one (U03): what it does not know it keeps, or leaves alone."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.bus.stored import Stored
from shared.contract.envelope import Carriage, Envelope, pack
from shared.contract.events import MessageHeld
from shared.contract.subjects import Place
from shared.mail.ids import RANDOM_BYTES, new_queue_id
from tests.delivery.house import delivering
from tests.delivery.world import World

MAIL = b"Subject: hello\r\n\r\nhello\r\n"


async def accept(world: World, envelope: Envelope, mail: bytes, more: dict[str, Any]) -> tuple[Place, bytes]:
    """Store a message with `more` in its envelope, as ingress of a later version."""
    line, _, octets = pack(Carriage(envelope=envelope), mail).partition(b"\n")
    written = json.loads(line)
    written["envelope"] |= more
    payload = json.dumps(written).encode() + b"\n" + octets
    place = world.tenant.place(envelope)
    assert world.tenant.ingress is not None
    await world.tenant.ingress.store(place.ready, payload, stream=f"MAIL_{place.shard}", expected_last=0)
    return place, payload


async def at(world: World, stream: str, subject: str) -> Stored | None:
    """Return what lies at a place."""
    return await world.watcher.bus.last(stream, subject)


async def lies_alone(world: World, subject: str) -> None:
    """Wait until this is all that is on the mail path."""
    async with asyncio.timeout(60):
        while await world.watcher.queued() != [subject]:
            await asyncio.sleep(0.02)


async def test_unknown_fields_stay_with_a_message(world: World) -> None:
    """Deferred and put where it waits it has them still; and it is delivered."""
    world.exchanger.by_recipient["a@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)]
    envelope = world.tenant.envelope(world.tenant.mail(), "a@rcpt.test")
    more = {"added_later": {"x": [1]}, "recipients": [{"number": 1, "address": "a@rcpt.test", "added_later": True}]}
    async with delivering(world.server, world.settings(retry_waits_seconds=(6.0,))):
        place, payload = await accept(world, envelope, world.tenant.mail(), more)
        await world.watcher.until(envelope, "deferred")
        await lies_alone(world, place.later)
        stored = await at(world, f"RETRY_{place.shard}", place.later)
        assert stored is not None
        assert _envelope(stored.payload) == _envelope(payload)
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()


async def test_a_value_it_does_not_know_waits_for_a_later_version(world: World) -> None:
    """It is neither delivered nor dropped nor quarantined, and what comes back is what was stored."""
    envelope = world.tenant.envelope(MAIL, "a@rcpt.test")
    async with delivering(world.server, world.settings()) as room:
        place, payload = await accept(world, envelope, MAIL, {"staging": {"mode": "mirror"}})
        good = await world.tenant.accept("b@rcpt.test")
        await world.watcher.until(good, "delivered")
        await lies_alone(world, place.later)
        stored = await at(world, f"RETRY_{place.shard}", place.later)
        assert stored is not None
        assert stored.payload == payload
        assert "Nats-Schedule" in stored.headers  # it comes back by itself
        assert room.metrics.get_sample_value("postlane_delivery_alarms_total", {"kind": "later-version"}) == 1
    assert [message.recipients for message in world.exchanger.received] == [["b@rcpt.test"]]


async def test_but_not_for_ever(world: World) -> None:
    """After the lifetime of mail it goes to quarantine, octet for octet."""
    minted = datetime.now(UTC) - timedelta(days=30)
    queue_id = new_queue_id(int(minted.timestamp() * 1000), bytes(RANDOM_BYTES))
    envelope = world.tenant.envelope(MAIL, "a@rcpt.test", queue_id=queue_id)
    async with delivering(world.server, world.settings()):
        place, payload = await accept(world, envelope, MAIL, {"lane": "express"})
        await lies_alone(world, place.quarantine)
        stored = await at(world, f"MAIL_{place.shard}", place.quarantine)
    assert stored is not None
    assert stored.payload == payload


async def test_a_suspension_it_cannot_read_holds(world: World) -> None:
    """A delivery that starts beside a later control takes it for a suspension, not for none."""
    tenant = world.tenant
    assert tenant.control is not None
    key = f"suspension.{tenant.configuration}"
    await tenant.control.store(f"$KV.directory.{key}", b'{"type":"suspension.v2"}', stream="KV_directory")
    async with delivering(world.server, world.settings()):
        envelope = await tenant.accept("a@rcpt.test")
        event = await world.watcher.until(envelope, "held")
        assert isinstance(event, MessageHeld)
        assert event.reason == "later-version"
        await tenant.directory.delete(key)
        await world.watcher.until(envelope, "delivered")


def _envelope(payload: bytes) -> Any:
    return json.loads(payload.partition(b"\n")[0])["envelope"]
