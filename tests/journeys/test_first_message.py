"""From a submission to a tracked, delivered message, with the standard library's client."""

import asyncio
import json
import smtplib
from typing import Any

import dkim
import nats
import pytest

from shared.mail.ids import parse_queue_id
from tests.ledger import subjects_of
from tests.system import System, eventually, queue_id_of


def published_key(system: System) -> dict[bytes, bytes]:
    """Return the sandbox's TXT records by name, as dkimpy asks for them."""
    listing = system.postlane("sandbox", "dns", "ls", "--directory", system.ready["sandbox"]["directory"], "-o", "json")
    records = [json.loads(line) for line in listing.stdout.splitlines()]
    return {r["name"].rstrip(".").encode() + b".": r["values"][0].encode() for r in records if r["type"] == "TXT"}


def arrived(system: System, marker: str) -> bytes:
    """Return the one message with this marker from the sandbox's Maildir, waiting for it."""
    eventually(f"arrival of {marker}", lambda: marker in subjects_of(system.arrived()))
    (message,) = [m for m in system.arrived() if marker in subjects_of([m])]
    return message


def test_a_message_is_accepted_delivered_signed_and_tracked(system: System) -> None:
    """The queue ID of the reply leads to `delivered`; the message verifies with dkimpy against the published key."""
    queue_id = system.send("delivered@inbox.example", "first-message")
    message = arrived(system, "first-message")
    keys = published_key(system)

    assert parse_queue_id(queue_id) == queue_id
    assert dkim.verify(message, dnsfunc=lambda name, timeout=5: keys[name])
    tampered = message.replace(b"Hello.", b"Hallo.")
    assert tampered != message
    assert not dkim.verify(tampered, dnsfunc=lambda name, timeout=5: keys[name])
    eventually("delivered", lambda: system.status(queue_id) == "delivered")
    followed = system.postlane("track", queue_id, "--follow")
    assert "delivered" in followed.stdout


def test_track_exits_with_the_outcome(system: System) -> None:
    """0 delivered, 1 bounced, 2 still open."""
    bounced = system.send("bounce+550-5.1.1@track.example", "to-bounce")
    waiting = system.send("defer+99x@inbox.example", "to-wait")
    eventually("bounce", lambda: system.status(bounced) == "bounced")
    eventually("deferral", lambda: system.status(waiting) == "deferred")

    result = system.postlane("track", bounced, check=False)

    assert result.returncode == 1
    assert "5.1.1" in result.stdout
    result = system.postlane("track", waiting, check=False)
    assert result.returncode == 2
    assert "451" in result.stdout + system.postlane("why", waiting, check=False).stdout


def test_a_deferred_message_is_delivered_at_the_third_attempt(system: System) -> None:
    """`defer+2x` fails twice, then the message arrives once."""
    queue_id = system.send("defer+2x@inbox.example", "third-time")

    eventually("delivered", lambda: system.status(queue_id) == "delivered", 60)

    assert subjects_of(system.arrived()).count("third-time") == 1
    described = system.api("GET", f"/v1/postlane/messages/{queue_id}").json()
    assert described["recipients"][0]["attempts"] == 3


def test_recipients_of_one_message_have_their_own_outcome(system: System) -> None:
    """Delivered, bounced and deferred recipients of one message are told apart; only the deferred one is retried."""
    session = system.login()
    session.mail(f"app@{system.tenant['domain']}")
    for recipient in ("delivered@one.example", "bounce+550-5.1.1@one.example", "greylist+1x@several.example"):
        assert session.rcpt(recipient)[0] == 250
    code, text = session.data(system.message("several@one.example", "several"))
    session.quit()
    assert code == 250
    queue_id = queue_id_of(text.decode())

    eventually("bounced", lambda: system.status(queue_id) == "bounced")

    described = system.api("GET", f"/v1/postlane/messages/{queue_id}").json()
    told = [entry["event"]["status"] for entry in described["timeline"] if entry["what"] == "attempted"]
    assert told == ["deferred", "bounced"]
    assert [r["status"] for r in described["recipients"]] == ["delivered", "bounced", "delivered"]
    assert [r["attempts"] for r in described["recipients"]] == [1, 1, 2]
    assert [r["number"] for r in described["recipients"]] == [1, 2, 3]


async def test_status_events_arrive_as_they_happen_as_json(system: System) -> None:
    """A plain NATS client with the printed credentials sees a message's events."""
    client = await nats.connect(
        system.ready["nats"],
        user=system.ready["nats_user"],
        password=system.ready["nats_password"],
        inbox_prefix="_INBOX_status",
    )
    subscription = await client.subscribe("postlane.status.>")
    await client.flush()
    queue_id = await asyncio.to_thread(system.send, "defer+2x@inbox.example", "watched")
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not seen or seen[-1]["status"] != "delivered":
            message = await subscription.next_msg(timeout=60)
            event = json.loads(message.data)
            if event["queue_id"] == queue_id:
                assert message.subject.endswith(queue_id)
                seen.append(event)
    await client.close()

    assert [event["status"] for event in seen] == ["deferred", "deferred", "delivered"]
    assert {event["type"] for event in seen} == {"message.attempted.v1"}
    assert [event["recipients"][0]["attempts"] for event in seen] == [1, 2, 3]


@pytest.mark.parametrize("port", ["smtps", "private_smtp"])
def test_every_listener_takes_mail(system: System, port: str) -> None:
    """Implicit TLS and the private endpoint accept as the public one does."""
    number = system.ready[port]["port"]
    session: smtplib.SMTP
    if port == "smtps":
        session = smtplib.SMTP_SSL("127.0.0.1", number, context=system.trust(), timeout=30)
    else:
        session = smtplib.SMTP("127.0.0.1", number, timeout=30)
        session.starttls(context=system.trust())
    session.login(system.tenant["username"], system.tenant["password"])
    code, text = system.submit(session, "delivered@inbox.example", f"by-{port}")
    session.quit()

    assert code == 250, text
    assert arrived(system, f"by-{port}")
