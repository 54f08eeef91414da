"""Delivery end to end: a real nats-server, real DNS packets, a scripted exchanger."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import dkim
import pytest

from services.delivery.app import room
from services.delivery.examination import quarantine
from shared.bus import service
from shared.bus.kv import Bucket
from shared.contract.envelope import Recipient
from shared.contract.events import MessageAttempted, MessageDropped, MessageExpired, MessageHeld, MessageReleased
from shared.contract.examination import CallRoll
from shared.contract.requests import SUPPRESSION_REMOVE, RemoveSuppression, SuppressionRemoved
from shared.contract.siblings import Withdrawal
from shared.runtime import clock
from shared.runtime.lifecycle import Room
from tests.delivery.house import Tenant, delivering, dkim_answer
from tests.delivery.test_once import configure
from tests.delivery.world import World
from tests.patience import tasks_of_a_block, until_seen

judge: Any = dkim


async def test_it_is_not_ready_before_it_has_read_anything(world: World) -> None:
    """Nor before it is connected, however long the bus is away."""
    async with tasks_of_a_block() as tasks:
        here = Room("delivery", tasks)
        here.conditions.set("start", True)
        begun = room(world.settings(), world.server.settings("delivery"), world.server.topology)(here)
        tasks.create_task(begun)  # type: ignore[arg-type]  # a coroutine
        await asyncio.sleep(0)
        assert here.conditions.failing


async def test_delivers_signed(world: World) -> None:
    """A fresh message reaches the exchanger once, verifies, and leaves nothing behind but its record."""
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test", "b@rcpt.test")
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    (message,) = world.exchanger.received
    assert message.recipients == ["a@rcpt.test", "b@rcpt.test"]
    assert message.sender == envelope.sender
    assert judge.DKIM(message.data).verify(dnsfunc=dkim_answer)
    assert isinstance(event, MessageAttempted)
    assert [r.status for r in event.recipients] == ["delivered", "delivered"]
    assert event.exchangers[0].address == "127.0.0.1"
    assert not any(r.possible_duplicate for r in event.recipients)


async def test_retries_only_the_open_recipient(world: World) -> None:
    """Of 250, 450 and 550 for three recipients, only the 450 one is tried again, through a scheduled message."""
    world.exchanger.by_recipient = {
        "b@rcpt.test": [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)],
        "c@rcpt.test": [(b"550 5.1.1 no such user\r\n",)],
    }
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test", "b@rcpt.test", "c@rcpt.test", sender="")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 2)
        await world.watcher.until_empty()
        history = await world.watcher.history(envelope)
    assert [m.recipients for m in world.exchanger.received] == [["a@rcpt.test"], ["b@rcpt.test"]]
    assert [[r.status for r in event.recipients] for event in history] == [
        ["delivered", "deferred", "bounced"],
        ["delivered", "delivered", "bounced"],
    ]
    assert history[0].next_attempt_at is not None


async def test_holds_while_suspended_and_releases(world: World) -> None:
    """A suspension holds queued mail, outside the queue; it goes by itself, once, when the standing returns."""
    await world.tenant.stand("suspended", "the SPF record is gone")
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test")
        held = await world.watcher.until(envelope, "held")
        assert isinstance(held, MessageHeld)
        assert "SPF record is gone" in held.explanation
        async with asyncio.timeout(60):  # the move follows the commit
            while [s.split(".")[3] for s in await world.watcher.queued()] != ["held"]:
                await asyncio.sleep(0.02)
        assert world.exchanger.connections == 0
        await world.tenant.stand("verified")
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        history = await world.watcher.history(envelope)
    assert [type(event) for event in history] == [MessageHeld, MessageReleased, MessageAttempted]
    assert len(world.exchanger.received) == 1


async def test_operator_suspension_holds(world: World) -> None:
    """An operator's suspension holds as well, whatever the standing says."""
    await world.tenant.suspend("abuse")
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test")
        held = await world.watcher.until(envelope, "held")
        await world.tenant.directory.delete(f"suspension.{world.tenant.configuration}")
        await world.watcher.until(envelope, "delivered")
    assert isinstance(held, MessageHeld)
    assert held.reason == "suspended-by-operator"


async def test_bounce_is_reported_to_the_sender(world: World) -> None:
    """A bounce makes one report with the null sender, signed, to the envelope sender in the tenant's domain."""
    world.dns.set("acme.example", "MX", "10 mx.rcpt.test.")
    world.exchanger.by_recipient = {"gone@rcpt.test": [(b"550 5.1.1 <gone@rcpt.test> unknown\r\n",)]}
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("gone@rcpt.test", "ok@rcpt.test")
        await world.watcher.until(envelope, "bounced")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 2)
        await world.watcher.until_empty()
    report = next(m for m in world.exchanger.received if m.sender == "")
    assert report.recipients == ["app@acme.example"]
    assert b"Final-Recipient: rfc822; gone@rcpt.test" in report.data
    assert b"Status: 5.1.1" in report.data
    assert judge.DKIM(report.data).verify(dnsfunc=dkim_answer)


async def test_hard_bounce_suppresses(world: World) -> None:
    """After a mailbox bounce the next message to that address is suppressed, until it is taken off the list."""
    world.exchanger.by_recipient = {"gone@rcpt.test": [(b"550 5.1.1 unknown\r\n",)]}
    async with delivering(world.server, world.settings()):
        first = await world.tenant.accept("gone@rcpt.test", sender="")
        await world.watcher.until(first, "bounced")
        await world.watcher.until_empty()
        before = world.exchanger.connections
        assert before == 1
        second = await world.tenant.accept("gone@RCPT.test", sender="")
        event = await world.watcher.until(second, "suppressed", "bounced")
        assert event.status == "suppressed"
        assert world.exchanger.connections == before
        assert world.tenant.control is not None
        wish = RemoveSuppression(configuration=second.configuration, address="gone@rcpt.test", by="op")
        removed = await service.ask(world.tenant.control, SUPPRESSION_REMOVE, wish, SuppressionRemoved)
        again = await service.ask(world.tenant.control, SUPPRESSION_REMOVE, wish, SuppressionRemoved)
        assert (removed.removed, again.removed) == (True, False)

        async def tried_again() -> bool:
            third = await world.tenant.accept("gone@rcpt.test", sender="")
            return (await world.watcher.until(third, "bounced", "suppressed")).status == "bounced"

        await until_seen("it is tried once the worker has heard", tried_again)


@pytest.mark.parametrize("reply", [b"550 5.7.1 not from you\r\n", b"450 4.1.1 not now\r\n", b"552 5.2.2 full\r\n"])
async def test_other_failures_do_not_suppress(world: World, reply: bytes) -> None:
    """L16: a refusal by policy, a full mailbox and what is temporary say nothing of whether there is a mailbox."""
    world.exchanger.by_recipient = {"here@rcpt.test": [(reply,), (b"250 2.1.5 Ok\r\n",)]}
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600,))):
        first = await world.tenant.accept("here@rcpt.test", sender="")
        await world.watcher.until(first, "bounced", "deferred")
        second = await world.tenant.accept("here@rcpt.test", sender="")
        event = await world.watcher.until(second, "delivered", "suppressed", "bounced")
        assert event.status == "delivered"


@pytest.mark.parametrize("verb", ["DATA", "FINAL"])
async def test_a_refusal_of_all_together_suppresses_nobody(verb: str, world: World) -> None:
    """What is said of a whole transaction names no mailbox, unless there was only one."""
    world.exchanger.script[verb] = [(b"550 5.1.1 no such user\r\n",)]
    async with delivering(world.server, world.settings()):
        several = await world.tenant.accept("a@rcpt.test", "b@rcpt.test", sender="")
        await world.watcher.until(several, "bounced")
        one = await world.tenant.accept("c@rcpt.test", sender="")
        await world.watcher.until(one, "bounced")
        await world.watcher.until_empty()
        world.exchanger.script.clear()
        again = await world.tenant.accept("a@rcpt.test", "c@rcpt.test", sender="")
        event = await world.watcher.until(again, "delivered", "bounced", "suppressed")
    assert [recipient.status for recipient in event.recipients] == ["delivered", "suppressed"]


@pytest.mark.parametrize(("said", "least"), [(b"4.2.0 Greylisted", 60), (b"4.3.0 not now", 0)])
async def test_greylisting_is_waited_for(
    said: bytes, least: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chance may call an attempt early, but not where the server greylists."""
    monkeypatch.setattr("services.delivery.carrier.random.random", lambda: 0.0)
    world.exchanger.script["RCPT"] = [(b"450 " + said + b"\r\n",)]
    async with delivering(world.server, world.settings(retry_waits_seconds=(60.0,), retry_jitter=1.0)):
        envelope = await world.tenant.accept("x@rcpt.test")
        event = await world.watcher.until(envelope, "deferred")
    assert isinstance(event, MessageAttempted)
    assert event.next_attempt_at is not None
    assert (event.next_attempt_at - event.at).total_seconds() == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("whose", ["the message's own", "the configuration's"])
async def test_shorter_lifetimes(whose: str, world: World) -> None:
    """A message or a configuration may ask for less than the lifetime of all."""
    world.exchanger.script["RCPT"] = [(b"451 4.3.0 not now\r\n",)]
    own = whose == "the message's own"
    if not own:
        await configure(world, lifetime_seconds=2)
    expires_at = datetime.now(UTC) + timedelta(seconds=2) if own else None
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test", sender="", expires_at=expires_at)
        event = await world.watcher.until(envelope, "expired")
        await world.watcher.until_empty()
    assert event.at >= (expires_at or envelope.received_at + timedelta(seconds=2))


async def test_expires_with_a_report(world: World) -> None:
    """A message whose lifetime ends is expired and reported once; a report that fails is not reported again."""
    world.dns.set("acme.example", "MX", "10 mx.rcpt.test.")
    world.exchanger.by_recipient = {"never@rcpt.test": [(b"451 4.3.0 not now\r\n",)]}
    async with delivering(world.server, world.settings(lifetime_seconds=1.0)):
        envelope = await world.tenant.accept("never@rcpt.test")
        event = await world.watcher.until(envelope, "expired")
        await world.watcher.until_empty()
    assert isinstance(event, MessageExpired)
    (report,) = world.exchanger.received
    assert b"Status: 5.4.7" in report.data


async def test_no_key_defers_and_never_sends_unsigned(world: World) -> None:
    """Without a signing key the mail waits as our fault; when the key comes it goes."""
    tenant = Tenant(world.server, "keyless")
    await tenant.open(key=False)
    async with delivering(world.server, world.settings()):
        envelope = await tenant.accept("a@rcpt.test")
        event = await world.watcher.until(envelope, "deferred")
        assert event.recipients[0].last is not None
        assert event.recipients[0].last.enhanced == "4.3.5"
        assert world.exchanger.connections == 0
        await tenant.give_key()
        await world.watcher.until(envelope, "delivered")
    await tenant.close()


async def test_undecodable_goes_to_quarantine(world: World) -> None:
    """A payload nobody can read is kept, octet for octet, where no consumer takes it; the doctor hears of it."""
    assert world.tenant.ingress is not None
    odd = world.tenant.envelope(b"x")
    place = world.tenant.place(odd)
    stream = f"MAIL_{place.shard}"
    examine = quarantine(world.watcher.bus, world.server.topology.shards)
    assert [finding.state for finding in await examine(CallRoll())] == ["ok"]
    await world.tenant.ingress.store(place.ready, b"{not json\nrest", stream=stream)
    async with delivering(world.server, world.settings()):
        good = await world.tenant.accept("a@rcpt.test")
        await world.watcher.until(good, "delivered")
        async with asyncio.timeout(60):
            while await world.watcher.queued() != [place.quarantine]:
                await asyncio.sleep(0.02)
    stored = await world.watcher.bus.last(stream, place.quarantine)
    assert stored is not None
    assert stored.payload == b"{not json\nrest"
    (finding,) = await examine(CallRoll())
    assert finding.state == "bad"
    assert odd.queue_id in finding.sentence


async def test_notify_never_is_not_reported(world: World) -> None:
    """NOTIFY=NEVER suppresses the report."""
    world.dns.set("acme.example", "MX", "10 mx.rcpt.test.")
    world.exchanger.by_recipient = {"gone@rcpt.test": [(b"550 5.7.1 no\r\n",)]}
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept(Recipient(number=1, address="gone@rcpt.test", notify="NEVER"))
        await world.watcher.until(envelope, "bounced")
        await world.watcher.until_empty()
    assert world.exchanger.received == []


async def test_what_was_stored_late_waits_for_its_withdrawal(world: World) -> None:
    """It lay in a frozen bus and its client was told 451: that is heard of in time. What nobody withdraws goes on."""
    before = datetime.now(UTC) - timedelta(seconds=10)
    ingress = await world.server.connect("ingress")
    async with delivering(world.server, world.settings()):
        told_again = await world.tenant.accept("a@rcpt.test", received_at=before)
        kept = await world.tenant.accept("b@rcpt.test", received_at=before)
        await world.watcher.until(await world.tenant.accept("c@rcpt.test"), "delivered")
        bucket: Bucket[Withdrawal] = Bucket(ingress, "withdrawn", Withdrawal)
        await bucket.put(told_again.queue_id, Withdrawal(at=clock.now(), reason="nobody said whether it was stored"))
        await ingress.close()
        await world.watcher.until(told_again, "dropped")
        await world.watcher.until(kept, "delivered")
    assert [message.recipients for message in world.exchanger.received] == [["c@rcpt.test"], ["b@rcpt.test"]]


async def test_what_was_withdrawn_is_not_tried(world: World) -> None:
    """A message whose client was told 451 is dropped with the reason; its neighbour is delivered."""
    told_again, other = await world.tenant.accept("a@rcpt.test"), await world.tenant.accept("b@rcpt.test")
    ingress = await world.server.connect("ingress")
    try:
        bucket: Bucket[Withdrawal] = Bucket(ingress, "withdrawn", Withdrawal)
        await bucket.put(told_again.queue_id, Withdrawal(at=clock.now(), reason="nobody said whether it was stored"))
    finally:
        await ingress.close()
    async with delivering(world.server, world.settings()):
        dropped = await world.watcher.until(told_again, "dropped")
        await world.watcher.until(other, "delivered")
        await world.watcher.until_empty()
    assert isinstance(dropped, MessageDropped)
    assert "nobody said whether it was stored" in dropped.explanation
    assert [message.recipients for message in world.exchanger.received] == [["b@rcpt.test"]]
