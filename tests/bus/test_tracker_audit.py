"""The audit and the reconciler against real streams: what is lost is named, what was not told is made up for."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.tracker import reconciler
from services.tracker.auditor import Auditor
from services.tracker.store import Store
from shared.bus.streams import PullConsumer
from shared.contract.envelope import Carriage, Envelope, Recipient, pack
from shared.contract.subjects import Place, shard_of
from shared.runtime import clock
from shared.runtime.lifecycle import Room
from tests.bus.test_tracker import CONFIGURATION, INSTANCE, NOON, System, accepted, attempted, queue_id
from tests.bus_server import BusServer
from tests.patience import until

MAIL = b"Subject: it\r\n\r\nlies here\r\n"
RECONSTRUCTED = (
    "Accepted: 26 octets of <app@Demo.example> for 1 recipient"
    " (reconstructed from the stored message: its client is not known)"
)
LOST_SLOT = 1
"""Slot of the one message that a test loses; the others are in slot 0."""


@pytest.fixture
async def relay(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[System]:
    """Give a test a bus with connected rooms, and trackers that audit all the time."""
    made = System(bus_server, tmp_path)
    made.settings = msgspec.structs.replace(made.settings, audit_seconds=0.2, audit_grace_seconds=1)
    made.ingress = await bus_server.connect("ingress")
    made.delivery = await bus_server.connect("delivery")
    made.control = await bus_server.connect("control")
    yield made
    for bus in (made.ingress, made.delivery, made.control):
        await bus.close()


def place(number: int, slot: int = 0) -> Place:
    return Place(shard_of(queue_id(number), 2), "transactional", slot, CONFIGURATION, queue_id(number))


def payload(number: int, user: str = "u1") -> bytes:
    envelope = Envelope(
        queue_id=queue_id(number), instance=INSTANCE, configuration=CONFIGURATION, domain="demo.example",
        lane="transactional", sender="app@Demo.example" if user else "",
        recipients=(Recipient(number=1, address="ann@Example.org"),), received_at=NOON, expires_at=None,
        size=len(MAIL), sha256=hashlib.sha256(MAIL).hexdigest(), message_id=f"<m{number}@demo.example>",
        subject=f"Subject {number}", user=user,
    )  # fmt: skip
    return pack(Carriage(envelope=envelope), MAIL)


async def put_ready(system: System, number: int, slot: int = 0, user: str = "u1") -> None:
    """Store a message as ingress does."""
    where = place(number, slot)
    await system.ingress.store(where.ready, payload(number, user), stream=f"MAIL_{where.shard}")


async def put_later(system: System, number: int) -> int:
    """Store a deferred message as delivery does."""
    where = place(number)
    return await system.delivery.store(
        where.later,
        payload(number),
        stream=f"RETRY_{where.shard}",
        schedule_at=clock.now() + timedelta(days=1),
        schedule_target=where.due,
    )


async def lose_ready(system: System, number: int) -> None:
    """Ack a message without having delivered it: what no program of ours does."""
    consumer = PullConsumer(system.delivery, f"MAIL_{place(number).shard}", f"transactional-{LOST_SLOT}")
    (taken,) = await consumer.fetch(1, 1 << 20, 10)
    assert taken.subject.endswith(queue_id(number))
    await taken.ack()
    await system.delivery.reached()


async def lose_later(system: System, number: int, sequence: int) -> None:
    """Delete a message as the administrator."""
    administrator = await system.server.connect("provision")
    answer = await administrator.api(f"STREAM.MSG.DELETE.RETRY_{place(number).shard}", {"seq": sequence})
    assert answer["success"]
    await administrator.close()


def sample(room: Room, name: str, **labels: str) -> float:
    return room.metrics.get_sample_value(name, labels) or 0.0


async def audits(room: Room, count: int) -> None:
    """Wait until so many more audits were completed."""
    for _ in range(count):
        before = sample(room, "postlane_audit_timestamp_seconds")

        def later(before: float = before) -> bool:
            return sample(room, "postlane_audit_timestamp_seconds") > before

        await until("another audit is complete", later, 60)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_exactly_what_was_lost_is_named(system_with_mail: System, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is raised while all is there; then one message of MAIL and one of RETRY disappear."""
    system = system_with_mail
    sequence = await put_later(system, 7)
    await system.publish(accepted(7), attempted(7, "deferred", code=451))
    async with system.tracker() as room:
        await system.until(7, lambda m: m.status == "deferred" and m.sender != "")
        await audits(room, 4)
        assert alarms(caplog) == []
        assert sample(room, "postlane_audit_missing") == 0
        told = {
            state: sample(room, "postlane_audit_messages", state=state)
            for state in ("accepted", "finished", "queued", "quarantined")
        }
        assert told == {"accepted": 7, "finished": 2, "queued": 4, "quarantined": 1}
        assert "missing" not in (await system.describe(6)).why

        await lose_ready(system, 6)
        await lose_later(system, 7, sequence)
        await until("two are missing", lambda: sample(room, "postlane_audit_missing") == 2, 60)
        await audits(room, 3)
        why = (await system.describe(6)).why
        others = [(await system.describe(number)).why for number in range(1, 6)]
        assert sample(room, "postlane_audit_messages", state="queued") == 2

    assert why.startswith("This message is missing from the queue: an alarm was raised at ")
    assert "Queued: accepted at" in why
    assert not any("missing" in other for other in others)
    raised = " ".join(alarms(caplog))
    assert {n for n in range(1, 8) if queue_id(n) in raised} == {6, 7}
    assert all(raised.count(queue_id(n)) == 1 for n in (6, 7))


@pytest.fixture
async def system_with_mail(relay: System) -> System:
    """Give a test accepted messages in every honest state, and number 6 alone in its slot."""
    await relay.publish(*(accepted(number) for number in range(1, 7)))
    await put_ready(relay, 1)
    await relay.publish(attempted(2, "delivered"))
    await put_later(relay, 3)
    await relay.publish(attempted(3, "deferred", code=451))
    await relay.delivery.store(place(4).quarantine, b"not readable", stream=f"MAIL_{place(4).shard}")
    await put_ready(relay, 5)
    await relay.publish(attempted(5, "dropped"))  # finished, with a copy that nobody has taken away yet
    await put_ready(relay, 6, slot=LOST_SLOT)
    return relay


async def test_a_finished_message_is_not_missed_while_the_database_lags(relay: System) -> None:
    """The last STATUS record in the stream counts, not the one the database has; without it, the alarm comes."""
    await relay.publish(accepted(1), accepted(2))
    async with relay.tracker(msgspec.structs.replace(relay.settings, audit_seconds=3600)):
        await relay.until(2, lambda m: m.sender != "")
    await relay.publish(attempted(1, "delivered"))
    store, bus = Store(relay.settings.database_url), await relay.server.connect("tracker")
    auditor = Auditor(bus, store, relay.settings, relay.server.topology.shards, CollectorRegistry())

    assert (await auditor.round()).suspects == {queue_id(2)}
    assert (await auditor.round()).raised == (queue_id(2),)
    await put_ready(relay, 2)
    assert (await auditor.round()).cleared == (queue_id(2),)
    assert auditor.missing_since(queue_id(2)) is None
    await bus.close()
    store.close()


async def test_a_message_whose_acceptance_was_lost_gets_one(relay: System) -> None:
    """Its envelope tells what is known; a report is told as such; a published acceptance wins whenever it comes."""
    await put_ready(relay, 1)
    await put_ready(relay, 2, user="")
    async with relay.tracker() as room:
        lost = await relay.until(1, lambda m: m.sender != "")
        report = await relay.until(2, lambda m: m.size > 0)
        await audits(room, 3)
        assert (await relay.search()).total == 2
        assert [r.address for r in lost.recipients] == ["ann@Example.org"]
        assert (lost.status, lost.subject, lost.client_address) == ("queued", "Subject 1", "")
        assert [entry.sentence for entry in lost.timeline] == [RECONSTRUCTED]
        assert report.timeline[0].sentence == "Made by Postlane: a report of 26 octets to ann@Example.org"

        await relay.publish(accepted(1), attempted(1, "delivered"))
        whole = await relay.until(1, lambda m: m.status == "delivered" and m.client_address != "")
        await audits(room, 2)
        assert sample(room, "postlane_audit_missing") == 0
        assert sample(room, "postlane_tracker_reconstructed_total") == 2
    assert [entry.what for entry in whole.timeline] == ["accepted", "attempted"]
    assert "reconstructed" not in whole.timeline[0].sentence


async def test_replicas_that_reconcile_at_once_agree(relay: System) -> None:
    """One of them makes the acceptance; a published one, not projected yet, is left to the projection."""
    for number in range(1, 21):
        await put_ready(relay, number)
    await put_ready(relay, 30)
    await relay.publish(accepted(30))
    registries = [CollectorRegistry() for _ in range(3)]
    bus, stores = await relay.server.connect("tracker"), [Store(relay.settings.database_url) for _ in range(3)]
    stores[0].prepare()
    auditors = [
        Auditor(bus, store, relay.settings, relay.server.topology.shards, registry)
        for store, registry in zip(stores, registries, strict=True)
    ]
    await asyncio.gather(*(auditor.round() for auditor in auditors))

    made = sum(registry.get_sample_value("postlane_tracker_reconstructed_total") or 0 for registry in registries)
    assert made == 20
    await bus.close()
    for store in stores:
        store.close()
    async with relay.tracker(msgspec.structs.replace(relay.settings, audit_seconds=3600)):
        await relay.until(30, lambda m: m.client_address != "")
        assert (await relay.search()).total == 21


async def test_while_the_projection_is_far_behind_no_acceptance_is_made_up(
    relay: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published may tell of the message; once it is projected and does not, the acceptance is made."""
    await put_ready(relay, 1)
    await relay.publish(accepted(30), accepted(31))
    store, bus, metrics = Store(relay.settings.database_url), await relay.server.connect("tracker"), CollectorRegistry()
    store.prepare()
    auditor = Auditor(bus, store, relay.settings, relay.server.topology.shards, metrics)
    for limit, made in ((1, 0), (2, 1)):
        monkeypatch.setattr(reconciler, "PAGES_LOOKED_AT", limit)
        await auditor.round()
        assert metrics.get_sample_value("postlane_tracker_reconstructed_total") == made
    await bus.close()
    store.close()


async def test_a_round_looks_at_a_bounded_number(relay: System) -> None:
    """With a bound of 2, five missing messages are all raised, over several rounds."""
    await relay.publish(*(accepted(number) for number in range(1, 6)))
    store, bus = Store(relay.settings.database_url), await relay.server.connect("tracker")
    async with relay.tracker(msgspec.structs.replace(relay.settings, audit_seconds=3600)):
        await relay.until(5, lambda m: m.sender != "")
    settings, metrics = msgspec.structs.replace(relay.settings, audit_candidates=2), CollectorRegistry()
    auditor = Auditor(bus, store, settings, relay.server.topology.shards, metrics)
    raised: list[str] = []
    for _ in range(8):
        raised += (await auditor.round()).raised
    assert sorted(raised) == sorted(queue_id(number) for number in range(1, 6))
    assert metrics.get_sample_value("postlane_audit_unexamined") == 3
    await bus.close()
    store.close()
