"""Staged and suppressed mail over the bus, with taps: what must not leave does not, and the events are the same."""

import msgspec

from shared.bus import service
from shared.contract import subjects
from shared.contract.envelope import Envelope, Staging
from shared.contract.events import MessageCaptured
from shared.contract.requests import SUPPRESSION_ADD, AddSuppression, SuppressionAdded
from tests.delivery.house import delivering
from tests.delivery.world import World


async def captured(world: World, envelope: Envelope) -> MessageCaptured:
    """Read what was kept of a message, as control does."""
    assert world.tenant.control is not None
    subject = subjects.captured(envelope.instance, envelope.configuration, envelope.queue_id)
    stored = await world.tenant.control.last("CAPTURED", subject)
    assert stored is not None
    return msgspec.json.decode(stored.payload, type=MessageCaptured)


async def test_capture(world: World) -> None:
    """Kept with its signature, told in STATUS; no name is looked up and nobody is connected to."""
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test", "y@other.test", staging=Staging(mode="capture"))
        event = await world.watcher.until(envelope, "captured")
        await world.watcher.until_empty()
    kept = await captured(world, envelope)
    assert kept.recipients == ("x@rcpt.test", "y@other.test")
    assert kept.mail.startswith(b"DKIM-Signature:")
    assert kept.mail.endswith(world.tenant.mail())
    assert [r.status for r in event.recipients] == ["captured", "captured"]
    assert event.explanation.startswith("Of 2 recipients 2 captured")
    assert (world.exchanger.connections, world.dns.asked) == (0, [])


async def test_allow_list(world: World) -> None:
    """Those on the list get it, the others' copy is kept, in one record."""
    wish = Staging(mode="allow-list", allowed=("*@rcpt.test",))
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test", "y@other.test", staging=wish)
        event = await world.watcher.until(envelope, "captured")
        await world.watcher.until_empty()
    assert [r.status for r in event.recipients] == ["delivered", "captured"]
    assert (await captured(world, envelope)).recipients == ("y@other.test",)
    assert world.exchanger.received[0].recipients == ["x@rcpt.test"]
    assert not any("other.test" in name for name, _, _ in world.dns.asked)


async def test_redirect(world: World) -> None:
    """One copy goes to the address of the setting, naming who was meant; their domains are not even looked up."""
    wish = Staging(mode="redirect", redirect_to="qa@rcpt.test")
    world.exchanger.by_recipient["qa@rcpt.test"] = [(b"550 5.1.1 no such user\r\n",), (b"250 ok\r\n",)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@other.test", "y@other.test", staging=wish, sender="")
        event = await world.watcher.until(envelope, "bounced")
        # That bounce is the address's of the setting: nobody else is suppressed for it.
        envelope = await world.tenant.accept("x@other.test", "y@other.test", staging=wish)
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert [r.address for r in event.recipients] == ["x@other.test", "y@other.test"]
    (message,) = world.exchanger.received
    assert message.recipients == ["qa@rcpt.test"]
    assert b"X-Postlane-Original-Recipient: <x@other.test>\r\n" in message.data
    assert b"X-Postlane-Original-Recipient: <y@other.test>\r\n" in message.data
    assert not any("other.test" in name for name, _, _ in world.dns.asked)


async def test_simulate(world: World) -> None:
    """Bounce, deferral and delivery by local part, with retries and events as ever; nothing leaves, not even a DSN."""
    world.dns.set(world.tenant.domain, "MX", "10 mx.rcpt.test.")
    async with delivering(world.server, world.settings()):
        for _ in range(2):  # the second time shows that nobody was suppressed
            envelope = await world.tenant.accept(
                "bounce@rcpt.test", "defer+2x@rcpt.test", "fine@rcpt.test", staging=Staging(mode="simulate")
            )
            event = await world.watcher.until(envelope, "bounced")
            await world.watcher.until_empty()
            assert [r.status for r in event.recipients] == ["bounced", "delivered", "delivered"]
            assert event.attempt == 3
            history = await world.watcher.history(envelope)
            assert [e.status for e in history] == ["deferred", "deferred", "bounced"]
    assert (world.exchanger.connections, world.dns.asked) == (0, [])


async def test_control_without_staging(world: World) -> None:
    """The tap does see what leaves."""
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test")
        await world.watcher.until(envelope, "delivered")
    assert world.exchanger.connections == 1
    assert world.dns.asked


async def test_an_entry_made_by_hand_counts_without_the_setting(world: World) -> None:
    """With `suppress_bounces` off nothing is suppressed by itself, and what a person entered still is."""
    assert world.tenant.control is not None
    async with delivering(world.server, world.settings(suppress_bounces=False)):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.watcher.until(envelope, "delivered")  # the control
        wish = AddSuppression(
            configuration=world.tenant.configuration, address="x@rcpt.test", by="op", reason="asked for it"
        )
        assert (await service.ask(world.tenant.control, SUPPRESSION_ADD, wish, SuppressionAdded)).added
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        event = await world.watcher.until(envelope, "suppressed", "delivered")
        assert event.status == "suppressed"
    assert len(world.exchanger.uses(b"MAIL")) == 1


async def test_an_entry_made_by_hand_takes_the_place_of_a_bounce(world: World) -> None:
    """Whoever enters an address that is on the list for a bounce wants it there, also without the setting."""
    assert world.tenant.control is not None
    world.exchanger.by_recipient["x@rcpt.test"] = [(b"550 5.1.1 no such user\r\n",)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.watcher.until(envelope, "bounced")
        await world.watcher.until_empty()
    async with delivering(world.server, world.settings(suppress_bounces=False)):
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        await world.watcher.until(envelope, "bounced")  # the control: the entry of delivery counts no more
        wish = AddSuppression(configuration=world.tenant.configuration, address="x@RCPT.test", by="op", reason="")
        assert (await service.ask(world.tenant.control, SUPPRESSION_ADD, wish, SuppressionAdded)).added
        assert not (await service.ask(world.tenant.control, SUPPRESSION_ADD, wish, SuppressionAdded)).added
        envelope = await world.tenant.accept("x@rcpt.test", sender="")
        assert (await world.watcher.until(envelope, "suppressed", "bounced")).status == "suppressed"
