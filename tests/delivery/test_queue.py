"""Queue operations, as control asks for them over the bus."""

import asyncio
from typing import Any

import pytest

from services.delivery.commit import Commits
from services.delivery.core import record, step
from shared.bus import service
from shared.bus.client import Bus
from shared.bus.stored import Stored
from shared.contract import errors
from shared.contract.envelope import Carriage, Envelope
from shared.contract.errors import RequestFailed
from shared.contract.events import MessageDropped, MessageHeld, MessageReleased
from shared.contract.requests import QUEUE_ACT, QUEUE_LIST, ListQueue, QueueActed, QueueAction, QueueListing
from shared.runtime import clock
from tests.delivery.house import delivering
from tests.delivery.world import World
from tests.patience import until_seen


async def act(world: World, envelope: Envelope, action: str, **more: object) -> str:
    """Ask delivery for an operation; return its sentence."""
    assert world.tenant.control is not None
    wish = QueueAction(queue_id=envelope.queue_id, action=action, by="op", reason="test", **more)  # type: ignore[arg-type]
    return (await service.ask(world.tenant.control, QUEUE_ACT, wish, QueueActed)).sentence


async def listed(world: World, **more: object) -> list[tuple[str, str]]:
    """List the queue."""
    assert world.tenant.control is not None
    answer = await service.ask(world.tenant.control, QUEUE_LIST, ListQueue(**more), QueueListing)  # type: ignore[arg-type]
    return [(entry.queue_id, entry.where) for entry in answer.entries]


async def until_listed(world: World, envelope: Envelope, where: str) -> None:
    """Wait until the queue lists a message there, and nowhere else."""

    async def lies() -> bool:
        return {place for queue_id, place in await listed(world) if queue_id == envelope.queue_id} == {where}

    await until_seen(f"it is listed as {where}", lies)


async def deferred(world: World) -> Envelope:
    """Return a message that waits an hour for its second attempt."""
    world.exchanger.by_recipient["x@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)]
    envelope = await world.tenant.accept("x@rcpt.test", sender="")
    await world.watcher.until(envelope, "deferred")
    await until_listed(world, envelope, "later")
    return envelope


async def test_whoever_sees_it_ready_may_ask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes until the bus knows that it answers."""
    serve = service.serve

    async def slow(*arguments: Any) -> service.Service:
        await asyncio.sleep(0.5)
        return await serve(*arguments)

    monkeypatch.setattr(service, "serve", slow)
    async with delivering(world.server, world.settings()):
        assert await listed(world) == []


async def test_retry_now(world: World) -> None:
    """A deferred message is listed and tried at once when asked for."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        envelope = await deferred(world)
        assert await listed(world) == [(envelope.queue_id, "later")]
        assert await listed(world, configuration="somebody-else") == []
        assert "tried now" in await act(world, envelope, "retry")
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        first, wish, _ = await world.watcher.history(envelope)
    assert wish.explanation == "op has it tried now instead of at its time: test."
    assert (first.attempt, wish.attempt, event.attempt) == (1, 1, 2)
    assert len(world.exchanger.received) == 1


async def test_hold_and_release(world: World) -> None:
    """An operator's hold outlives the open gate and the old schedule; release sends the message once."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(8.0,))):  # time to hold it before
        envelope = await deferred(world)
        assert "is held until" in await act(world, envelope, "hold")
        await until_listed(world, envelope, "held")  # the old schedule fires, sees that it is outdated and yields
        assert await listed(world, where="held") == [(envelope.queue_id, "held")]
        assert "held already" in await act(world, envelope, "hold")
        assert "on its way" in await act(world, envelope, "release")
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        history = await world.watcher.history(envelope)
    assert [type(event) for event in history][1:3] == [MessageHeld, MessageReleased]
    assert "op holds the message: test." in history[1].explanation
    assert "op released the message: test;" in history[2].explanation
    assert len(world.exchanger.received) == 1


async def test_what_the_relay_holds_no_tenant_releases(world: World) -> None:
    """Who runs the relay holds a message, also one its tenant held; the tenant, which may release its own, waits."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        envelope = await deferred(world)
        tenants = {"instances": (envelope.instance,)}
        await act(world, envelope, "hold", **tenants)
        assert "held already" in await act(world, envelope, "hold", **tenants)
        assert "is held until" in await act(world, envelope, "hold")
        assert "held already" in await act(world, envelope, "hold")
        assert "held already" in await act(world, envelope, "hold", **tenants)
        for action in ("release", "retry"):
            with pytest.raises(RequestFailed) as failure:
                await act(world, envelope, action, **tenants)
            assert failure.value.code == errors.ACTION_NOT_POSSIBLE
        assert "on its way" in await act(world, envelope, "release")
        await world.watcher.until(envelope, "delivered")
        own = await deferred(world)
        await act(world, own, "hold", **tenants)
        assert "on its way" in await act(world, own, "release", **tenants)
        await world.watcher.until(own, "delivered")


async def test_after_a_release_the_old_schedule_counts_no_more(world: World) -> None:
    """Held and released, then deferred again: the next attempt is at its own time, not at that of the first copy."""
    world.exchanger.by_recipient["x@rcpt.test"] = [
        (b"450 4.2.1 later\r\n",),
        (b"450 4.2.1 later\r\n",),
        (b"250 ok\r\n",),
    ]
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600, 0.3))):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.watcher.until(envelope, "deferred")
        await until_listed(world, envelope, "later")
        await act(world, envelope, "hold")
        assert "on its way" in await act(world, envelope, "release")
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert event.attempt == 3


async def test_a_release_that_was_broken_off(world: World) -> None:
    """An operator's release was recorded and its worker died: the message goes on its way without another word."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        envelope = await deferred(world)
        await act(world, envelope, "hold")
        commits, now = Commits(world.watcher.bus, lambda: False), clock.now()
        last, sequence = await commits.last(envelope)
        state = step.known(Carriage(envelope=envelope), last, sequence)
        event = record.released(
            envelope, state, event_id="released", now=now, next_at=now, by="op", reason="held-by-operator"
        )
        await commits.record(envelope, event, sequence)
        await world.watcher.until(envelope, "delivered")
        assert "not held" in await act(world, await deferred(world), "release")


async def test_drop(world: World) -> None:
    """A dropped message is recorded, leaves the queue and is never tried again."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        envelope = await deferred(world)
        await act(world, envelope, "drop")
        event = await world.watcher.until(envelope, "dropped")
        await world.watcher.until_empty()
    assert isinstance(event, MessageDropped)
    assert event.by == "op"
    assert world.exchanger.received == []


async def test_release_obeys_the_gate(world: World) -> None:
    """A message held for DNS cannot be released by hand while the records are gone."""
    await world.tenant.stand("suspended", "no SPF")
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test")
        await world.watcher.until(envelope, "held")
        with pytest.raises(RequestFailed) as failure:
            await act(world, envelope, "release")
    assert failure.value.code == errors.ACTION_NOT_POSSIBLE


async def test_an_operators_hold_outlives_the_gates(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held for DNS and then by an operator as well: the records return, and the message waits for the operator.

    While it does, its mail is not read over and over.
    """
    await world.tenant.stand("suspended", "the SPF record is gone")
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test")
        await world.watcher.until(envelope, "held")
        await until_listed(world, envelope, "held")
        assert "is held until" in await act(world, envelope, "hold")
        assert "held already" in await act(world, envelope, "hold")
        reads, real = list[str](), Bus.last

        async def last(bus: Bus, stream: str, subject: str) -> Stored | None:
            reads.append(subject)
            return await real(bus, stream, subject)

        monkeypatch.setattr(Bus, "last", last)
        await world.tenant.stand("verified")
        async with asyncio.timeout(60):
            while len(reads) < 3:
                await asyncio.sleep(0.02)
        assert {subject.split(".")[1] for subject in reads} == {"status"}
        assert await listed(world) == [(envelope.queue_id, "held")]
        await act(world, envelope, "release")
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 1


async def test_unknown_and_foreign(world: World) -> None:
    """Another instance's message, an unknown one, nonsense and an unknown action have their errors."""
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        envelope = await deferred(world)
        for wish, code in (
            ({"instances": ("other",)}, errors.QUEUED_MESSAGE_UNKNOWN),
            ({"action": "explode"}, errors.BAD_REQUEST),
        ):
            with pytest.raises(RequestFailed) as failure:
                await act(world, envelope, **({"action": "drop"} | wish))
            assert failure.value.code == code
        ghost = world.tenant.envelope(b"x")
        with pytest.raises(RequestFailed) as failure:
            await act(world, ghost, "drop")
        assert failure.value.code == errors.QUEUED_MESSAGE_UNKNOWN
        assert len(await listed(world)) == 1


async def test_a_hold_that_comes_too_late(world: World) -> None:
    """A message is delivered while an operator holds it: it is not listed as held any more."""
    held = asyncio.Event()
    world.exchanger.script["MAIL"] = [(held, b"250 ok\r\n")]
    async with delivering(world.server, world.settings()) as here:
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.exchanger.until(lambda: bool(world.exchanger.uses(b"MAIL")))
        await act(world, envelope, "hold")
        held.set()
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        assert await listed(world) == []
        # It is no second worker, which would be an alarm.
        assert not here.metrics.get_sample_value("postlane_delivery_alarms_total", {"kind": "two-workers"})
    assert len(world.exchanger.received) == 1
