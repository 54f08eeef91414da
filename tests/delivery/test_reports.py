"""Reports on delay and success, asked for by NOTIFY, RET and ENVID; judged by Python's parser."""

import email
from datetime import timedelta
from email.message import Message

from shared.contract.envelope import Recipient
from shared.runtime import clock
from tests.delivery.exchanger import Received
from tests.delivery.house import delivering
from tests.delivery.world import World


def fields(report: Received) -> tuple[Message, list[Message]]:
    """Return the per-message fields and those of each recipient."""
    message = email.message_from_bytes(report.data)
    assert message.get_content_type() == "multipart/report"
    assert message["Auto-Submitted"] == "auto-replied"
    status = message.get_payload(1)
    assert isinstance(status, Message)
    assert status.get_content_type() == "message/delivery-status"
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    first, *others = [block for block in blocks if isinstance(block, Message)]
    return first, others


def reports(world: World) -> list[Received]:
    """Return the reports that came back to the tenant."""
    return [message for message in world.exchanger.received if message.sender == ""]


def home(world: World) -> None:
    """Let the tenant receive its reports."""
    world.dns.set(world.tenant.domain, "MX", "10 mx.rcpt.test.")


async def test_a_delay_is_reported_once(world: World) -> None:
    """Past the setting's age the sender is warned once, however many attempts follow; NOTIFY=FAILURE hears nothing."""
    home(world)
    later = [(b"450 4.2.1 busy\r\n",)] * 3 + [(b"250 ok\r\n",)]
    for name in ("x", "y", "z"):
        world.exchanger.by_recipient[f"{name}@rcpt.test"] = list(later)
    async with delivering(world.server, world.settings(delay_report_seconds=0.001)):
        envelope = await world.tenant.accept(
            "x@rcpt.test",
            Recipient(number=2, address="y@rcpt.test", notify="FAILURE"),
            Recipient(number=3, address="z@rcpt.test", notify="DELAY,FAILURE", orcpt="rfc822;first@rcpt.test"),
            envid="QQ314159",
        )
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert event.attempt == 4
    (report,) = reports(world)
    assert report.recipients == [f"app@{world.tenant.domain}"]
    about, recipients = fields(report)
    assert about["Original-Envelope-Id"] == "QQ314159"
    assert [r["Final-Recipient"] for r in recipients] == ["rfc822; x@rcpt.test", "rfc822; z@rcpt.test"]
    assert recipients[1]["Original-Recipient"] == "rfc822;first@rcpt.test"
    assert {r["Action"] for r in recipients} == {"delayed"}
    assert all(r["Will-Retry-Until"] for r in recipients)


async def test_no_delay_before_its_time(world: World) -> None:
    """A young message is not reported on; nor is any if the setting says never."""
    home(world)
    for seconds in (3600.0, 0.0):
        world.exchanger.by_recipient["x@rcpt.test"] = [(b"450 4.2.1 busy\r\n",), (b"250 ok\r\n",)]
        async with delivering(world.server, world.settings(delay_report_seconds=seconds)):
            envelope = await world.tenant.accept("x@rcpt.test")
            await world.watcher.until(envelope, "delivered")
            await world.watcher.until_empty()
    assert reports(world) == []


async def test_success_is_reported_where_nobody_else_does(world: World) -> None:
    """A server without DSN: we say `relayed`. One with DSN gets the wish and reports itself."""
    home(world)
    wish = Recipient(number=1, address="x@rcpt.test", notify="SUCCESS")
    async with delivering(world.server, world.settings(connection_idle_seconds=0.0)):
        envelope = await world.tenant.accept(wish, Recipient(number=2, address="y@rcpt.test"))
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
        (report,) = reports(world)
        _, recipients = fields(report)
        assert [(r["Final-Recipient"], r["Action"], r["Status"]) for r in recipients] == [
            ("rfc822; x@rcpt.test", "relayed", "2.0.0")
        ]
        world.exchanger.extensions = (*world.exchanger.extensions, "DSN")
        envelope = await world.tenant.accept(wish)
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert len(reports(world)) == 1
    assert b"RCPT TO:<x@rcpt.test> NOTIFY=SUCCESS" in world.exchanger.commands


async def test_the_whole_mail_and_never(world: World) -> None:
    """RET=FULL brings the octets back; NOTIFY=NEVER brings nothing, and neither does a message from the null sender."""
    home(world)
    gone = [(b"550 5.1.1 no such user\r\n",)]
    for name in ("a", "b", "c"):
        world.exchanger.by_recipient[f"{name}@rcpt.test"] = list(gone)
    async with delivering(world.server, world.settings()):
        for recipient, more in (
            (Recipient(number=1, address="a@rcpt.test"), {"ret": "FULL"}),
            (Recipient(number=1, address="b@rcpt.test", notify="NEVER"), {}),
            (Recipient(number=1, address="c@rcpt.test"), {"sender": ""}),
        ):
            envelope = await world.tenant.accept(recipient, text=b"my very words\r\n", **more)
            await world.watcher.until(envelope, "bounced")
        await world.watcher.until_empty()
    (report,) = reports(world)
    returned = email.message_from_bytes(report.data).get_payload(2)
    assert isinstance(returned, Message)
    assert returned.get_content_type() == "message/rfc822"
    assert b"my very words" in report.data


async def test_a_large_mail_is_not_returned_whole(world: World) -> None:
    """Beyond the limit RET=FULL brings the header only; the control above brings all of it."""
    home(world)
    world.exchanger.by_recipient["a@rcpt.test"] = [(b"550 5.1.1 no such user\r\n",)]
    async with delivering(world.server, world.settings(report_full_bytes=100)):
        envelope = await world.tenant.accept("a@rcpt.test", text=b"my very words\r\n" * 50, ret="FULL")
        await world.watcher.until(envelope, "bounced")
        await world.watcher.until_empty()
    (report,) = reports(world)
    returned = email.message_from_bytes(report.data).get_payload(2)
    assert isinstance(returned, Message)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"my very words" not in report.data


async def test_who_expires_after_an_attempt_that_refused_others(world: World) -> None:
    """The last attempt bounced one recipient and deferred another: the end of the other is reported too."""
    home(world)
    world.exchanger.by_recipient["gone@rcpt.test"] = [(b"550 5.1.1 no such user\r\n",)]
    world.exchanger.by_recipient["busy@rcpt.test"] = [(b"450 4.2.1 busy\r\n",)]
    async with delivering(world.server, world.settings(retry_waits_seconds=(3600.0,))):
        envelope = await world.tenant.accept(
            "gone@rcpt.test", "busy@rcpt.test", expires_at=clock.now() + timedelta(seconds=6)
        )
        await world.watcher.until(envelope, "bounced")
        await world.watcher.until_empty()
    told = [r for report in reports(world) for r in fields(report)[1]]
    assert [(r["Final-Recipient"], r["Status"]) for r in told] == [
        ("rfc822; gone@rcpt.test", "5.1.1"),
        ("rfc822; busy@rcpt.test", "5.4.7"),
    ]
