"""Each pipe of the bus against a real server."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.permissions import ADMINISTRATOR
from shared.bus.replica import Replica
from shared.bus.service import ask, serve
from shared.bus.streams import PullConsumer
from shared.contract import requests, subjects
from shared.contract.errors import BusUnavailable, RequestFailed, WrongSequence
from shared.contract.records import DirectoryRecord, Instance
from shared.contract.requests import QueueActed, QueueAction
from shared.contract.subjects import Place
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block, until, until_seen

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PLACE = Place(0, "transactional", 1, "c-1", "Q1")


def instance(name: str) -> Instance:
    return Instance(id=name, name=name, created_at=NOW)


async def test_a_stored_message_is_pulled_once_and_gone_after_its_ack(bus_server: BusServer) -> None:
    """Ingress stores, delivery takes and acks, nothing is left."""
    ingress, delivery = await bus_server.connect("ingress"), await bus_server.connect("delivery")
    assert await ingress.store(PLACE.ready, b"mail", stream="MAIL_0", message_id="Q1") == 1
    consumer = PullConsumer(delivery, "MAIL_0", "transactional-1")

    (taken,) = await consumer.fetch(10, 1 << 20, 5)

    assert (taken.subject, taken.payload, taken.sequence, taken.deliveries) == (PLACE.ready, b"mail", 1, 1)
    await taken.ack()
    assert await consumer.fetch(10, 1 << 20, 0.1) == []

    async def nothing_left() -> bool:
        return (await delivery.stream_state("MAIL_0")).messages == 0

    await until_seen("the ack has come", nothing_left)  # nobody answers it
    await ingress.close()
    await delivery.close()


async def test_a_waiting_fetch_gets_a_message_as_it_arrives(bus_server: BusServer) -> None:
    """A fetch that found nothing is answered by the first message stored later."""
    ingress, delivery = await bus_server.connect("ingress"), await bus_server.connect("delivery")
    waiting = asyncio.create_task(PullConsumer(delivery, "MAIL_0", "transactional-1").fetch(10, 1 << 20, 20))
    await ingress.store(PLACE.ready, b"mail", stream="MAIL_0")

    (taken,) = await waiting

    assert taken.payload == b"mail"
    await ingress.close()
    await delivery.close()


async def test_a_schedule_fires_on_its_target_and_its_repetition_is_refused(bus_server: BusServer) -> None:
    """A deferred message comes due by itself; storing it twice is one message."""
    delivery = await bus_server.connect("delivery")
    near, far = (datetime.now(UTC) + after for after in (timedelta(seconds=1), timedelta(days=1)))

    async def store(place: Place, at: datetime) -> None:
        await delivery.store(
            place.later, b"m", stream="RETRY_0", schedule_at=at, schedule_target=place.due, expected_last=0
        )

    waiting = PLACE._replace(queue_id="Q2")
    await store(waiting, far)
    with pytest.raises(WrongSequence):
        await store(waiting, far)
    await store(PLACE, near)

    (taken,) = await PullConsumer(delivery, "RETRY_0", "due-transactional-1").fetch(1, 1 << 20, 60)

    assert (taken.subject, taken.payload) == (PLACE.due, b"m")
    await delivery.close()


async def test_a_held_message_is_released_by_replacing_its_schedule(bus_server: BusServer) -> None:
    """A roll-up on the held subject replaces the far schedule with a near one, once."""
    delivery = await bus_server.connect("delivery")
    far, near = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) + timedelta(seconds=2)
    first = await delivery.store(
        PLACE.held, b"m", stream="RETRY_0", schedule_at=far, schedule_target=PLACE.due, expected_last=0
    )
    await delivery.store(
        PLACE.held,
        b"m2",
        stream="RETRY_0",
        schedule_at=near,
        schedule_target=PLACE.due,
        expected_last=first,
        rollup=True,
    )

    (taken,) = await PullConsumer(delivery, "RETRY_0", "due-transactional-1").fetch(1, 1 << 20, 60)

    assert taken.payload == b"m2"

    async def none_held() -> bool:
        return [item async for item in delivery.scan("RETRY_0", "postlane.retry.0.held.>")] == []

    await until_seen("the schedule has gone", none_held)
    await delivery.close()


async def test_an_answer_from_another_stream_is_not_a_puback(bus_server: BusServer) -> None:
    """A publish acknowledged by the wrong stream counts as unknown, never as stored."""
    ingress = await bus_server.connect("ingress")
    with pytest.raises(BusUnavailable):
        await ingress.store(PLACE.ready, b"mail", stream="MAIL_1", timeout_seconds=2)
    await ingress.close()


async def test_scan_pages_through_more_than_one_batch(bus_server: BusServer) -> None:
    """A scan returns every message exactly once across batches."""
    ingress, tracker = await bus_server.connect("ingress"), await bus_server.connect("tracker")
    for n in range(8):
        await ingress.store(PLACE._replace(queue_id=f"Q{n}").ready, b"%d" % n, stream="MAIL_0")

    found = [item.payload async for item in tracker.scan("MAIL_0", "postlane.mail.0.>", batch=3)]

    assert found == [b"%d" % n for n in range(8)]
    await ingress.close()
    await tracker.close()


async def test_a_bucket_checks_revisions_and_a_replica_follows(bus_server: BusServer) -> None:
    """Create, update, delete are compare-and-set; a replica elsewhere sees each of them."""
    control, ingress = await bus_server.connect("control"), await bus_server.connect("ingress")
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    await bucket.put("instance.old", instance("old"))
    replica: Replica[DirectoryRecord] = Replica(ingress, "directory", DirectoryRecord)
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        assert replica.get("instance.old") == instance("old")

        revision = await bucket.create("instance.a", instance("a"))
        with pytest.raises(WrongSequence):
            await bucket.create("instance.a", instance("b"))
        await until("it is known", lambda: replica.get("instance.a") is not None)
        newer = await bucket.update("instance.a", instance("c"), revision)
        with pytest.raises(WrongSequence):
            await bucket.update("instance.a", instance("d"), revision)
        await until("the change is known", lambda: replica.revision("instance.a") == newer)
        assert replica.get("instance.a") == instance("c")
        await bucket.delete("instance.a", newer)
        await until("it is gone", lambda: replica.get("instance.a") is None)
        assert await bucket.create("instance.a", instance("e")) > newer
        assert {entry.key for entry in await bucket.entries("instance")} == {"instance.a", "instance.old"}
    await control.close()
    await ingress.close()


async def test_a_replica_catches_up_with_what_it_missed(bus_server: BusServer) -> None:
    """Writes made while a reader was cut off are there after the server's restart."""
    control, ingress = await bus_server.connect("control"), await bus_server.connect("ingress")
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    replica: Replica[DirectoryRecord] = Replica(ingress, "directory", DirectoryRecord)
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        await bucket.put("instance.a", instance("a"))
        bus_server.kill()
        await until("the bus is lost", lambda: not ingress.connected)
        bus_server.start()
        other = await bus_server.connect("control")
        elsewhere: Bucket[DirectoryRecord] = Bucket(other, "directory", DirectoryRecord)
        await elsewhere.put("instance.b", instance("b"))
        await other.close()

        await until("what was missed is known", lambda: replica.get("instance.b") == instance("b"))
    await control.close()
    await ingress.close()


async def test_a_replica_follows_a_bucket_that_went_back(
    bus_server: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that was made anew counts from one again: what it says now is true, and what it lacks is gone."""
    monkeypatch.setattr("shared.bus.replica.COMPARE_SECONDS", 0.1)
    control, ingress = await bus_server.connect("control"), await bus_server.connect("ingress")
    administrator = await bus_server.connect(ADMINISTRATOR)
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    replica: Replica[DirectoryRecord] = Replica(ingress, "directory", DirectoryRecord)
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        for name in ("a", "b", "c"):
            await bucket.put("instance.same", instance(name))
        await bucket.put("instance.gone", instance("gone"))
        await until("all is known", lambda: replica.get("instance.gone") is not None)
        await administrator.api("STREAM.DELETE.KV_directory")
        await bus_server.provision()
        await bucket.put("instance.same", instance("new"))

        await until("the new bucket is read", lambda: replica.get("instance.same") == instance("new"))
        await until("what it lacks is gone", lambda: replica.get("instance.gone") is None)
        await bucket.put("instance.same", instance("newer"))
        await until("it is followed", lambda: replica.get("instance.same") == instance("newer"))
    for bus in (control, ingress, administrator):
        await bus.close()


async def test_a_missing_consumer_is_not_asked_in_a_circle(bus_server: BusServer) -> None:
    """The server refuses at once what it does not have; whoever was ready to wait waits all the same."""
    administrator, delivery = await bus_server.connect(ADMINISTRATOR), await bus_server.connect("delivery")
    await administrator.api("CONSUMER.DELETE.MAIL_0.transactional-1")
    consumer, loop = PullConsumer(delivery, "MAIL_0", "transactional-1"), asyncio.get_running_loop()
    began = loop.time()

    assert await consumer.next(0.3) == []

    assert loop.time() - began >= 0.29  # a lower bound, which load cannot break
    await bus_server.provision()
    assert await consumer.next(0.1) == []
    await administrator.close()
    await delivery.close()


async def test_requests_are_typed_and_errors_keep_their_code(bus_server: BusServer) -> None:
    """A service answers typed requests; a failure arrives with its stable code."""
    delivery, control = await bus_server.connect("delivery"), await bus_server.connect("control")

    async def act(wish: QueueAction) -> QueueActed:
        if wish.action != "retry":
            raise RequestFailed(3002, "only retry here")
        return QueueActed(sentence=f"retrying {wish.queue_id}")

    service = await serve(delivery, "delivery", "test", {requests.QUEUE_ACT: (QueueAction, act)})
    wish = QueueAction(queue_id="Q", action="retry", by="t", reason="t")

    answer = await ask(control, requests.QUEUE_ACT, wish, QueueActed)

    assert answer == QueueActed(sentence="retrying Q")
    with pytest.raises(RequestFailed) as failure:
        await ask(control, requests.QUEUE_ACT, QueueAction(queue_id="Q", action="x", by="t", reason="t"), QueueActed)
    assert failure.value.code == 3002
    with pytest.raises(BusUnavailable):
        await ask(control, requests.VERIFY, requests.VerifyNow(configuration="c"), requests.Verified, 2)
    await service.close()
    await delivery.close()
    await control.close()


async def test_publishing_while_the_server_is_away_fails_and_stays_unsent(bus_server: BusServer) -> None:
    """A publish made while disconnected is not sent later behind its caller's back."""
    ingress: Bus = await bus_server.connect("ingress")
    bus_server.kill()
    await until("the bus is lost", lambda: not ingress.connected)
    with pytest.raises(BusUnavailable):
        await ingress.store(PLACE.ready, b"ghost", stream="MAIL_0", timeout_seconds=1)
    bus_server.start()
    await until("the bus is back", lambda: ingress.connected)

    sequence = await ingress.store(PLACE.ready, b"real", stream="MAIL_0")

    assert sequence == 1
    tracker = await bus_server.connect("tracker")
    assert (await tracker.last("MAIL_0", PLACE.ready)).payload == b"real"  # type: ignore[union-attr]
    await tracker.close()
    assert subjects.parse_place(PLACE.ready) == PLACE
    await ingress.close()
