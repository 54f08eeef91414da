"""Notices: asked for on the bus, written by delivery, received by an exchanger."""

import asyncio
import email
from datetime import UTC, datetime
from email.policy import default

import msgspec

from shared.bus.client import Bus
from shared.contract import subjects
from shared.contract.events import NoticeRequested
from shared.contract.records import DomainClaim
from tests.delivery.house import delivering
from tests.delivery.world import World


async def requested(bus: Bus, name: str, *recipients: str) -> NoticeRequested:
    """Ask for a notice, as the verifier does."""
    event = NoticeRequested(
        id=name, at=datetime.now(UTC), instance="i", configuration="c", recipients=recipients,
        subject=f"about {name}", text="Records are gone.\n",
    )  # fmt: skip
    where = subjects.notice("standing", "i", "c")
    await bus.store(where, msgspec.json.encode(event), stream="NOTICES")
    return event


async def claim(world: World) -> None:
    """Give the tenant its domain, as control does."""
    record = DomainClaim(domain=world.tenant.domain, configuration=world.tenant.configuration)
    await world.tenant.directory.put(f"domain.{subjects.token(world.tenant.domain)}", record)


async def taken(world: World) -> None:
    """Wait until no notice waits any more."""
    provision = await world.server.connect("provision")
    try:
        async with asyncio.timeout(60):
            while (await provision.stream_state("NOTICES")).messages:
                await asyncio.sleep(0.02)  # a poll, not a guess
    finally:
        await provision.close()


async def test_a_notice_arrives_once(world: World) -> None:
    """One mail for two requests of the same identity; signed, from the operator's sender, known to STATUS."""
    assert world.tenant.verifier is not None
    await claim(world)
    sender = f"postlane@{world.tenant.domain}"
    async with delivering(world.server, world.settings(notice_sender=sender)):
        await requested(world.tenant.verifier, "n1", "x@rcpt.test", "y@rcpt.test")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 1)
        await requested(world.tenant.verifier, "n1", "x@rcpt.test", "y@rcpt.test")
        await requested(world.tenant.verifier, "n2", "x@rcpt.test")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 2)
        await taken(world)
        await world.watcher.until_empty()
    first, second = world.exchanger.received
    parsed = email.message_from_bytes(first.data, policy=default)
    assert (first.sender, sorted(first.recipients)) == (sender, ["x@rcpt.test", "y@rcpt.test"])
    assert parsed["Subject"] == "about n1"
    assert parsed["DKIM-Signature"]
    assert b"about n2" in second.data


async def test_no_report_about_a_notice(world: World) -> None:
    """A notice that bounces makes no DSN, although its sender could receive one."""
    assert world.tenant.verifier is not None
    await claim(world)
    world.dns.set(world.tenant.domain, "MX", "10 mx.rcpt.test.")
    world.exchanger.by_recipient["gone@rcpt.test"] = [(b"550 5.1.1 no such user\r\n",)]
    async with delivering(world.server, world.settings(notice_sender=f"p@{world.tenant.domain}")):
        await requested(world.tenant.verifier, "n3", "gone@rcpt.test")
        await world.exchanger.until(lambda: bool(world.exchanger.uses(b"RCPT")))
        await taken(world)
        await world.watcher.until_empty()
    assert world.exchanger.received == []
    assert len(world.exchanger.uses(b"MAIL")) == 1


async def test_without_a_sender_and_before_its_configuration(world: World) -> None:
    """Unset: acknowledged and nothing sent. Set, but its domain unknown: it waits until the domain is set up."""
    assert world.tenant.verifier is not None
    async with delivering(world.server, world.settings()):
        await requested(world.tenant.verifier, "n4", "x@rcpt.test")
        await taken(world)
    assert world.exchanger.connections == 0
    async with delivering(world.server, world.settings(notice_sender=f"p@{world.tenant.domain}")):
        await requested(world.tenant.verifier, "n5", "x@rcpt.test")
        await claim(world)
        await world.exchanger.until(lambda: len(world.exchanger.received) == 1, 40)
        await taken(world)
    assert b"about n5" in world.exchanger.received[0].data
