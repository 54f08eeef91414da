"""A crash at any point repeats or resumes the step: nothing is lost, nothing committed is sent again."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.delivery.carrier import Carrier
from services.delivery.commit import Commits
from services.delivery.core import step
from services.delivery.metrics import Metrics
from services.delivery.sweep import Sweep
from shared.bus.permissions import ADMINISTRATOR
from shared.contract import subjects
from shared.contract.envelope import Carriage, Diagnosis, Envelope, Progress, RecipientState, pack
from shared.contract.events import AnyStatus, MessageAttempted
from tests.delivery.house import delivering
from tests.delivery.world import World
from tests.patience import until_seen


def attempted(envelope: Envelope, *states: RecipientState, next_at: datetime | None) -> MessageAttempted:
    """Return the record of a first attempt."""
    return MessageAttempted(
        id=str(uuid4()), at=states[0].at or datetime.now(UTC), queue_id=envelope.queue_id, instance=envelope.instance,
        configuration=envelope.configuration, status=step.status_of(states), attempt=1, recipients=states,
        next_attempt_at=next_at,
    )  # fmt: skip


async def commit(world: World, envelope: Envelope, event: AnyStatus) -> int:
    """Store a record as a worker that dies right afterwards."""
    subject = subjects.status(envelope.instance, envelope.configuration, envelope.queue_id)
    return await world.watcher.bus.store(subject, msgspec.json.encode(event), stream="STATUS", expected_last=0)


async def test_delivered_but_not_acked(world: World) -> None:
    """The commit was made and the ack was not: the message goes without a second delivery."""
    envelope = await world.tenant.accept("a@rcpt.test")
    state = RecipientState(number=1, address="a@rcpt.test", status="delivered", attempts=1, at=datetime.now(UTC))
    await commit(world, envelope, attempted(envelope, state, next_at=None))
    async with delivering(world.server, world.settings()):
        await world.watcher.until_empty()
    assert world.exchanger.connections == 0
    assert len(await world.watcher.history(envelope)) == 1


async def test_deferred_but_successor_not_published(world: World) -> None:
    """The commit was made and the scheduled successor was not: it is made then, only the open recipient is sent."""
    envelope = await world.tenant.accept("a@rcpt.test", "b@rcpt.test")
    now = datetime.now(UTC)
    done = RecipientState(number=1, address="a@rcpt.test", status="delivered", attempts=1, at=now)
    still = RecipientState(
        number=2, address="b@rcpt.test", status="deferred", attempts=1, at=now,
        last=Diagnosis(code=450, enhanced="4.2.0", text="later"),
    )  # fmt: skip
    due = now + timedelta(seconds=1.5)
    await commit(world, envelope, attempted(envelope, done, still, next_at=due))
    async with delivering(world.server, world.settings()):
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert datetime.now(UTC) >= due
    assert [m.recipients for m in world.exchanger.received] == [["b@rcpt.test"]]
    history = await world.watcher.history(envelope)
    assert [event.attempt for event in history] == [1, 2]
    assert not any(r.possible_duplicate for r in history[-1].recipients)


async def test_successor_published_but_not_acked(world: World) -> None:
    """Both the fresh copy and its scheduled successor are there: one of them yields, one delivery is made."""
    envelope = await world.tenant.accept("a@rcpt.test")
    place, now = world.tenant.place(envelope), datetime.now(UTC)
    state = RecipientState(number=1, address="a@rcpt.test", status="deferred", attempts=1, at=now)
    due = now + timedelta(seconds=1)
    sequence = await commit(world, envelope, attempted(envelope, state, next_at=due))
    progress = Progress(attempt=1, recipients=(state,), due_at=due, committed=sequence)
    await world.watcher.bus.store(
        place.later, pack(Carriage(envelope=envelope, progress=progress), world.tenant.mail()),
        stream=f"RETRY_{place.shard}", expected_last=0, schedule_at=due, schedule_target=place.due,
    )  # fmt: skip
    async with delivering(world.server, world.settings()):
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 1
    assert [event.attempt for event in await world.watcher.history(envelope)] == [1, 2]


async def test_two_copies_on_due(world: World) -> None:
    """Of two copies on the due subject only one is delivered."""
    mail = world.tenant.mail()
    envelope = world.tenant.envelope(mail, "a@rcpt.test")
    place, now = world.tenant.place(envelope), datetime.now(UTC)
    state = RecipientState(number=1, address="a@rcpt.test", status="deferred", attempts=1, at=now)
    sequence = await commit(world, envelope, attempted(envelope, state, next_at=now))
    progress = Progress(attempt=1, recipients=(state,), due_at=now, committed=sequence)
    payload = pack(Carriage(envelope=envelope, progress=progress), mail)
    for _ in range(2):
        await world.watcher.bus.store(place.due, payload, stream=f"RETRY_{place.shard}")
    async with delivering(world.server, world.settings()):
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 1


async def test_bounce_committed_but_not_reported(world: World) -> None:
    """The bounce was committed and the report was not made: it is made then, once, however often that happens."""
    world.dns.set("acme.example", "MX", "10 mx.rcpt.test.")
    envelope = await world.tenant.accept("gone@rcpt.test")
    state = RecipientState(
        number=1, address="gone@rcpt.test", status="bounced", attempts=1, at=datetime.now(UTC),
        last=Diagnosis(code=550, enhanced="5.1.1", text="unknown", phase="rcpt", host="mx.rcpt.test"),
    )  # fmt: skip
    await commit(world, envelope, attempted(envelope, state, next_at=None))
    place = world.tenant.place(envelope)
    async with delivering(world.server, world.settings()):
        await world.exchanger.until(lambda: len(world.exchanger.received) == 1)
        await world.watcher.until_empty()
        assert world.tenant.ingress is not None
        again = pack(Carriage(envelope=envelope), world.tenant.mail())
        await world.tenant.ingress.store(place.ready, again, stream=f"MAIL_{place.shard}")
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 1


async def test_overdue_schedule_is_swept(world: World) -> None:
    """A scheduled copy that the server never fired is found and goes on its way."""
    mail = world.tenant.mail()
    envelope = world.tenant.envelope(mail, "a@rcpt.test")
    place, now = world.tenant.place(envelope), datetime.now(UTC)
    state = RecipientState(number=1, address="a@rcpt.test", status="deferred", attempts=1, at=now)
    progress = Progress(attempt=1, recipients=(state,), due_at=now - timedelta(minutes=5))
    await world.watcher.bus.store(
        place.later, pack(Carriage(envelope=envelope, progress=progress), mail), stream=f"RETRY_{place.shard}",
        schedule_at=now + timedelta(hours=1), schedule_target=place.due,
    )  # fmt: skip
    async with delivering(world.server, world.settings(overdue_seconds=1.0)):
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 1


async def test_killed_after_the_dot(world: World) -> None:
    """A worker killed between the final dot and its commit: the next one delivers again and marks the duplicate."""
    settings = world.settings()
    envelope = await world.tenant.accept("a@rcpt.test")
    world.exchanger.script["FINAL"] = [(30.0, b"250 too late\r\n"), (b"250 ok\r\n",)]
    child = await asyncio.to_thread(world.process)
    try:
        await world.exchanger.until(lambda: len(world.exchanger.seen) == 1)
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    finally:
        child.kill()
    assert await world.watcher.last(envelope) is None
    async with delivering(world.server, settings):
        event = await world.watcher.until(envelope, "delivered", seconds=60)  # the dead worker's hold must run out
        await world.watcher.until_empty()
    assert event.recipients[0].possible_duplicate
    assert len(world.exchanger.seen) == 2


async def test_nats_killed_between_delivery_and_commit(world: World) -> None:
    """The bus dies after the remote 250: the commit is repeated until the bus is back, and nothing is sent twice."""
    envelopes = [await world.tenant.accept(f"r{n}@rcpt.test") for n in range(5)]
    down = asyncio.Event()

    def crash(_message: object) -> None:
        if len(world.exchanger.seen) == len(envelopes):  # all of them wait for the reply to their dot
            down.set()
            world.server.kill()

    world.exchanger.on_final = crash
    world.exchanger.script = {"FINAL": [(3.0, b"250 2.0.0 stored\r\n")]}
    async with delivering(world.server, world.settings()):
        await down.wait()
        await world.exchanger.until(lambda: len(world.exchanger.received) == 5)
        world.server.start()
        for envelope in envelopes:
            await world.watcher.until(envelope, "delivered", seconds=60)
        await world.watcher.until_empty(60)
    assert sorted(m.recipients[0] for m in world.exchanger.received) == [f"r{n}@rcpt.test" for n in range(5)]


async def test_stored_again_under_the_same_queue_id(world: World) -> None:
    """As ingress does with a repetition of unknown outcome: whatever became of the first, nothing goes twice."""
    world.exchanger.by_recipient = {"b@rcpt.test": [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)]}
    done, waiting = await world.tenant.accept("a@rcpt.test"), await world.tenant.accept("b@rcpt.test")

    async def store_again(envelope: Envelope) -> None:
        place = world.tenant.place(envelope)
        payload = pack(Carriage(envelope=envelope), world.tenant.mail(b"hello\r\n"))
        assert world.tenant.ingress is not None
        await world.tenant.ingress.store(place.ready, payload, stream=f"MAIL_{place.shard}", expected_last=0)

    async def only_later() -> bool:
        return await world.watcher.queued() == [world.tenant.place(waiting).later]

    async with delivering(world.server, world.settings(retry_waits_seconds=(6.0,))):
        await world.watcher.until(done, "delivered")
        await world.watcher.until(waiting, "deferred")
        await until_seen("their first copies have gone", only_later)
        await store_again(done)
        await store_again(waiting)
        await world.watcher.until(waiting, "delivered")
        await world.watcher.until_empty()
    assert sorted(m.recipients for m in world.exchanger.received) == [["a@rcpt.test"], ["b@rcpt.test"]]
    assert [event.status for event in await world.watcher.history(done)] == ["delivered"]
    assert [event.status for event in await world.watcher.history(waiting)] == ["deferred", "delivered"]


@pytest.mark.parametrize("why", ["a record of a later version", "a fault of ours"])
async def test_what_cannot_be_carried_now_waits_outside_the_consumer(
    why: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message nothing can be done to for minutes must not fill up the pending set that fresh mail needs."""
    envelope = await world.tenant.accept("a@rcpt.test")
    place = world.tenant.place(envelope)
    if why == "a record of a later version":
        subject = subjects.status(envelope.instance, envelope.configuration, envelope.queue_id)
        await world.watcher.bus.store(subject, b'{"type": "message.teleported.v9"}', stream="STATUS")
    else:

        async def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Carrier, "_attempt", broken)
    async with delivering(world.server, world.settings()):
        async with asyncio.timeout(60):
            while place.later not in await world.watcher.queued():
                await asyncio.sleep(0.02)
            while place.ready in await world.watcher.queued():
                await asyncio.sleep(0.02)
    assert world.exchanger.connections == 0
    assert await world.watcher.queued() == [place.later]


@pytest.mark.parametrize(
    ("stream", "change"), [("STATUS", {"max_msgs_per_subject": 1}), ("RETRY_0", {"max_age": 10**12})]
)
async def test_a_changed_stream_is_an_alarm(stream: str, change: dict[str, int], world: World) -> None:
    """Whoever makes commits or deferred mail vanish hears of it; as they were made there is nothing to hear."""
    bus, administrator = await world.server.connect("delivery"), await world.server.connect(ADMINISTRATOR)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    sweep = Sweep(world.settings(), world.server.topology.shards, bus, Commits(bus, lambda: False), metrics)

    def alarms() -> float:
        return registry.get_sample_value("postlane_delivery_alarms_total", {"kind": "stream-changed"}) or 0.0

    await sweep.watch(0)
    assert alarms() == 0
    config = (await administrator.api(f"STREAM.INFO.{stream}"))["config"]
    assert "error" not in await administrator.api(f"STREAM.UPDATE.{stream}", config | change)
    await sweep.watch(0)
    assert alarms() == 1
    await bus.close()
    await administrator.close()
