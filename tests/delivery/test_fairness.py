"""One tenant's flood and one dead destination hold up nobody else; draining is orderly."""

import asyncio

import pytest

from shared.contract.subjects import slot_of
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import Tenant, delivering
from tests.delivery.test_once import configure
from tests.delivery.world import World


async def test_flood_at_a_silent_destination(world: World) -> None:
    """While a flood hangs at a silent exchanger, another tenant's message goes through, even in the same slot."""
    names = (f"flood{n}" for n in range(100))
    slots = world.server.topology.slots
    ours = slot_of(world.tenant.configuration, slots)
    flooder = Tenant(world.server, next(n for n in names if slot_of(f"configuration-{n}", slots) == ours))
    await flooder.open()
    async with await Exchanger().start("127.0.0.2", world.exchanger.port) as silent:
        silent.script["GREETING"] = [(60.0,)]
        world.dns.set("silent.test", "MX", "10 mx.silent.test.")
        world.dns.set("mx.silent.test", "A", "127.0.0.2")
        for number in range(60):
            await flooder.accept(f"u{number}@silent.test")
        settings = world.settings(concurrency=6, tenant_concurrency=3, drain_seconds=0.5, park_after_seconds=0.3)
        async with delivering(world.server, settings):
            await silent.until(lambda: silent.connections >= 3)
            envelope = await world.tenant.accept("a@rcpt.test")
            await world.watcher.until(envelope, "delivered")
            assert silent.connections == 3  # the flood has its places, no more
            async with asyncio.timeout(60):
                while not any(".later." in subject for subject in await world.watcher.queued()):
                    await asyncio.sleep(0.02)  # a poll: the condition decides
    await flooder.close()


async def test_marketing_waits_for_transactional(world: World) -> None:
    """With one place in delivery, transactional mail that came later goes before most marketing mail."""
    seller = Tenant(world.server, "seller", lane="marketing")
    await seller.open()
    for number in range(20):
        await seller.accept(f"m{number}@rcpt.test")
        await world.tenant.accept(f"t{number}@rcpt.test")
    async with delivering(world.server, world.settings(concurrency=1)):
        await world.exchanger.until(lambda: len(world.exchanger.received) == 40)
    order = [message.recipients[0][0] for message in world.exchanger.received]
    assert order[:20].count("t") >= 15
    await seller.close()


async def test_drain_finishes_what_is_past_the_dot(world: World) -> None:
    """Told to stop, delivery waits for a transaction past its dot and gives back the one that is not."""
    world.exchanger.script["FINAL"] = [(1.0, b"250 ok\r\n")]
    silent = await Exchanger().start("127.0.0.2", world.exchanger.port)
    silent.script["GREETING"] = [(60.0,), (b"220 mx\r\n",)]
    world.dns.set("silent.test", "MX", "10 mx.silent.test.")
    world.dns.set("mx.silent.test", "A", "127.0.0.2")
    async with silent:
        async with delivering(world.server, world.settings(drain_seconds=4.0)):
            first = await world.tenant.accept("a@rcpt.test")
            second = await world.tenant.accept("b@silent.test")
            await world.exchanger.until(lambda: len(world.exchanger.seen) == 1)
            await silent.until(lambda: silent.connections == 1)
        last = await world.watcher.last(first)
        assert last is not None
        assert last.status == "delivered"
        assert await world.watcher.last(second) is None
        async with delivering(world.server, world.settings()):
            # Given back, not left to its ack wait: the next worker has it at once.
            event = await asyncio.wait_for(world.watcher.until(second, "delivered"), 20)
    assert not event.recipients[0].possible_duplicate or event.attempt == 1


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_drain_commits_what_one_destination_took(at_most_once: bool, world: World) -> None:
    """A worker is stopped while one of two destinations says nothing: the other one gets no second copy."""
    await configure(world, at_most_once=at_most_once)
    silent = await Exchanger().start("127.0.0.2", world.exchanger.port)
    silent.script["GREETING"] = [(60.0,), (b"220 mx\r\n",)]
    world.dns.set("silent.test", "MX", "10 mx.silent.test.")
    world.dns.set("mx.silent.test", "A", "127.0.0.2")
    async with silent:
        async with delivering(world.server, world.settings(drain_seconds=6.0)):
            envelope = await world.tenant.accept("x@rcpt.test", "y@silent.test", sender="")
            await world.exchanger.until(lambda: len(world.exchanger.received) == 1)
            await silent.until(lambda: silent.connections == 1)
        async with delivering(world.server, world.settings()):
            event = await world.watcher.until(envelope, "delivered", "bounced", seconds=60)
            await world.watcher.until_empty()
    assert event.status == "delivered"
    assert not any(recipient.possible_duplicate for recipient in event.recipients)
    assert [message.recipients for message in world.exchanger.received] == [["x@rcpt.test"]]
    assert [message.recipients for message in silent.received] == [["y@silent.test"]]
