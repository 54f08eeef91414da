"""At most once, over the bus and against an exchanger that loses its reply; outgoing addresses and their names."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.delivery import carrier
from services.delivery.attempts import Attempts
from services.delivery.commit import Commits
from services.delivery.core import once, record, step
from services.delivery.intents import Intents
from shared.contract.envelope import Carriage
from shared.contract.errors import BusUnavailable
from shared.contract.events import MessageAttempted
from shared.contract.records import Configuration
from tests.delivery.house import delivering
from tests.delivery.test_queue import act, until_listed
from tests.delivery.world import World


async def configure(world: World, **changes: object) -> None:
    """Change the tenant's configuration."""
    name = f"configuration.{world.tenant.configuration}"
    entry = await world.tenant.directory.get(name)
    assert entry is not None
    assert isinstance(entry.record, Configuration)
    await world.tenant.directory.put(name, msgspec.structs.replace(entry.record, **changes))
    assert world.tenant.control is not None
    assert await world.tenant.control.reached()  # before the mail that it is for


async def test_a_lost_reply_is_not_repeated(world: World) -> None:
    """After a dot without a reply the message is given up, with a report; the control is sent twice."""
    await configure(world, at_most_once=True)
    world.exchanger.script["FINAL"] = [(None,), (b"250 2.0.0 stored\r\n",)]
    async with delivering(world.server, world.settings(final_reply_timeout_seconds=5.0)):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        event = await world.watcher.until(envelope, "bounced", "delivered")
        await world.watcher.until_empty()
        assert event.status == "bounced"
        last = event.recipients[0].last
        assert last is not None
        assert "at most once" in last.text
        assert len(world.exchanger.seen) == 1
    await configure(world, at_most_once=False)
    world.exchanger.script["FINAL"] = [(None,), (b"250 2.0.0 stored\r\n",)]
    async with delivering(world.server, world.settings(final_reply_timeout_seconds=5.0)):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        event = await world.watcher.until(envelope, "delivered")
        assert event.recipients[0].possible_duplicate
        assert len(world.exchanger.seen) == 3


async def test_ordinary_failures_are_still_tried_again(world: World) -> None:
    """A temporary refusal and a clean delivery are as ever; the attempt is announced before it is made."""
    await configure(world, at_most_once=True)
    world.exchanger.by_recipient["x@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test")
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        history = await world.watcher.history(envelope)
    assert [e.status for e in history] == ["deferred", "deferred", "deferred", "delivered"]
    assert "has begun" in history[0].explanation
    assert event.attempt == 2
    assert not event.recipients[0].possible_duplicate


async def test_broken_off(world: World) -> None:
    """A worker died after it had announced an attempt: the next one gives the message up and sends nothing."""
    await configure(world, at_most_once=True)
    envelope = await world.tenant.accept("x@rcpt.test", sender="")
    now = datetime.now(UTC)
    state = step.known(Carriage(envelope=envelope), None, 0)
    event = record.begun(envelope, state, once.begun(state, now), event_id="begun", now=now)
    await Commits(world.watcher.bus, lambda: False).record(envelope, event, 0)
    async with delivering(world.server, world.settings()):
        last = await world.watcher.until(envelope, "bounced", "delivered")
        await world.watcher.until_empty()
    assert last.status == "bounced"
    assert world.exchanger.connections == 0


async def test_a_drained_worker_calls_off(world: World) -> None:
    """A worker told to stop before the dot takes its announcement back: the next one delivers."""
    await configure(world, at_most_once=True)
    world.exchanger.script["DATA"] = [(30.0, b"354 go\r\n"), (b"354 go\r\n",)]
    envelope = await world.tenant.accept("x@rcpt.test")
    async with delivering(world.server, world.settings(drain_seconds=4.0)):
        await world.exchanger.until(lambda: bool(world.exchanger.uses(b"DATA")))
    async with delivering(world.server, world.settings()):
        event = await world.watcher.until(envelope, "bounced", "delivered")
    assert event.status == "delivered"
    assert len(world.exchanger.received) == 1


async def test_a_worker_that_dies_past_the_dot_calls_nothing_off(world: World) -> None:
    """A task of the process dies while a dot waits for its answer: whatever was sent is not sent again."""
    await configure(world, at_most_once=True)
    world.exchanger.script["FINAL"] = [(30.0, b"250 stored\r\n"), (b"250 stored\r\n",)]
    envelope = await world.tenant.accept("x@rcpt.test", sender="")

    async def die() -> None:
        raise ZeroDivisionError

    async def fails() -> None:
        async with delivering(world.server, world.settings()) as here:
            await world.exchanger.until(lambda: len(world.exchanger.seen) == 1)
            await asyncio.wait({here.tasks.create_task(die())})

    with pytest.raises(ExceptionGroup):
        await fails()
    async with delivering(world.server, world.settings()):
        event = await world.watcher.until(envelope, "bounced", "delivered", seconds=60)
        await world.watcher.until_empty()
    assert event.status == "bounced"
    assert len(world.exchanger.seen) == 1


@pytest.mark.parametrize(("where", "owner"), [("doubtful", Intents), ("make", Attempts)])
async def test_a_fault_before_the_attempt_gives_nothing_up(
    where: str, owner: type, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the bus goes away around the announcement, before anything is sent, the message is tried again."""
    await configure(world, at_most_once=True)
    monkeypatch.setattr(carrier, "AWAY_SECONDS", 0.2)
    real, failed = getattr(owner, where), False

    async def failing(*arguments: Any, **more: Any) -> Any:
        nonlocal failed
        if not failed:
            failed = True
            raise BusUnavailable("for a moment")
        return await real(*arguments, **more)

    monkeypatch.setattr(owner, where, failing)
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test")
        event = await world.watcher.until(envelope, "bounced", "delivered")
    assert failed
    assert event.status == "delivered"
    assert len(world.exchanger.received) == 1


async def test_pool_and_name(world: World) -> None:
    """A configuration with a pool leaves from it, with the address's own EHLO name; others keep the common one."""
    settings = world.settings(
        egress_addresses=("127.0.0.1", "127.0.0.3"),
        egress_pools=("bulk=127.0.0.3",),
        ehlo_names=("127.0.0.3=bulk.relay.test",),
        connection_idle_seconds=0.0,
    )
    world.dns.set("mx.rcpt.test", "A", "127.0.0.2")
    await world.exchanger.stop()
    await world.exchanger.start("127.0.0.2", world.exchanger.port)
    await configure(world, egress_pool="bulk")
    async with delivering(world.server, settings):
        envelope = await world.tenant.accept("x@rcpt.test")
        await world.watcher.until(envelope, "delivered")
        assert world.exchanger.uses(b"EHLO") == [b"EHLO bulk.relay.test"]
        world.dns.remove("mx.rcpt.test", "A")
        world.dns.set("mx.rcpt.test", "AAAA", "::1")
        envelope = await world.tenant.accept("x@rcpt.test")
        event = await world.watcher.until(envelope, "deferred", "bounced", "delivered")
    assert isinstance(event, MessageAttempted)
    assert event.status == "deferred"
    last = event.recipients[0].last
    assert last is not None
    assert "pool bulk" in last.text
    assert world.exchanger.connections == 1


async def test_held_while_it_is_tried(world: World) -> None:
    """An operator holds a message whose attempt ends in a refusal for now: released, it is delivered."""
    await configure(world, at_most_once=True)
    acted = asyncio.Event()
    world.exchanger.script["MAIL"] = [(acted, b"450 4.2.1 later\r\n"), (b"250 ok\r\n",)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.exchanger.until(lambda: bool(world.exchanger.uses(b"MAIL")))
        await act(world, envelope, "hold")
        acted.set()
        await until_listed(world, envelope, "held")
        held = await world.watcher.until(envelope, "held")
        assert held.attempt == 1
        assert held.recipients[0].attempts == 1
        assert held.recipients[0].last is not None
        assert held.recipients[0].last.code == 450
        await act(world, envelope, "release")
        event = await world.watcher.until(envelope, "bounced", "delivered")
        await world.watcher.until_empty()
    assert event.status == "delivered"
    assert len(world.exchanger.received) == 1
