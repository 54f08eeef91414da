"""Least privilege on the bus: what is not a user's own fails, whichever way it is tried."""

import asyncio
import json

import nats
import pytest
from nats.aio.client import Client

from shared.bus.permissions import permissions_of, users
from shared.bus.settings import Topology
from shared.contract import catalog
from tests.bus_server import BusServer

PLACE_TOKENS = "transactional.0.c-1.Q1"
FOREIGN: dict[str, tuple[str, ...]] = {
    "ingress": ("postlane.status.i.c.q", f"postlane.retry.0.due.{PLACE_TOKENS}", "$KV.directory.x", "$KV.standing.x"),
    "verifier": (f"postlane.mail.0.{PLACE_TOKENS}", "$KV.directory.x", "postlane.status.i.c.q"),
    "delivery": (f"postlane.mail.0.{PLACE_TOKENS}", "postlane.accepted.i.c.q", "$KV.standing.x", "$KV.keys.x"),
    "tracker": ("postlane.status.i.c.q", f"postlane.mail.0.{PLACE_TOKENS}", "$KV.standing.x", "postlane.suspension.c"),
    "control": (f"postlane.mail.0.{PLACE_TOKENS}", "postlane.status.i.c.q", "$KV.standing.x"),
    "status": ("postlane.status.i.c.q", f"postlane.mail.0.{PLACE_TOKENS}", "$KV.directory.x", "postlane.anything"),
}
"""Subjects each user must not publish to."""

FOREIGN_READING: dict[str, tuple[str, ...]] = {
    "ingress": ("$KV.>", "postlane.mail.>", "_INBOX_control.>", "postlane.status.>"),
    "verifier": ("postlane.mail.>", "$KV.keys.>", "_INBOX_delivery.>"),
    "delivery": ("$KV.directory.>", "_INBOX_ingress.>", ">"),
    "tracker": ("postlane.mail.>", "$KV.keys.>", "_INBOX_delivery.>"),
    "control": ("postlane.mail.>", "_INBOX_tracker.>", "$SYS.>"),
    "status": ("postlane.mail.>", "postlane.retry.>", "$KV.>", "_INBOX_control.>", "$JS.>", ">"),
}
"""Subjects each user must not subscribe to."""


async def connected(server: BusServer, user: str, errors: list[str]) -> Client:
    """Connect without the product's own wrapper, as an intruder with these credentials would."""

    async def on_error(fault: Exception) -> None:
        errors.append(str(fault).lower())

    settings = server.settings(user)
    return await nats.connect(
        settings.url,
        user=settings.user,
        password=settings.password.reveal(),
        inbox_prefix=f"_INBOX_{user}",
        error_cb=on_error,
    )


async def refused(client: Client, errors: list[str], subject: str) -> bool:
    """Whether the server reports a violation that names the subject."""
    for _ in range(100):
        await client.flush()
        if any("permissions violation" in error and subject.lower() in error for error in errors):
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.parametrize("user", list(FOREIGN))
async def test_foreign_subjects_cannot_be_published_or_read(bus_server: BusServer, user: str) -> None:
    """Each attempt ends in a permissions violation, and nothing reaches the stream."""
    errors: list[str] = []
    client = await connected(bus_server, user, errors)
    for subject in FOREIGN[user]:
        await client.publish(subject, b"forged")
        assert await refused(client, errors, subject), f"{user} may publish {subject}"
    for subject in FOREIGN_READING[user]:
        await client.subscribe(subject)
        assert await refused(client, errors, subject), f"{user} may read {subject}"
    await client.close()
    provision = await bus_server.connect("provision")
    for stream in ("MAIL_0", "RETRY_0", "STATUS", "ACCEPTED"):
        assert (await provision.stream_state(stream)).messages == 0
    await provision.close()


@pytest.mark.parametrize("user", [*catalog.ROOMS, "status"])
async def test_a_consumer_with_a_deliver_subject_cannot_be_made(bus_server: BusServer, user: str) -> None:
    """A consumer would publish into other rooms' subjects: nobody may create one, by any form of the call."""
    errors: list[str] = []
    client = await connected(bus_server, user, errors)
    body = {
        "stream_name": "KV_directory",
        "config": {"durable_name": "x", "name": "x", "deliver_subject": f"postlane.mail.0.{PLACE_TOKENS}"},
    }
    for call in (
        "$JS.API.CONSUMER.CREATE.KV_directory",
        "$JS.API.CONSUMER.CREATE.KV_directory.x",
        "$JS.API.CONSUMER.DURABLE.CREATE.KV_directory.x",
        "$JS.API.CONSUMER.CREATE.STATUS.x",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.API.STREAM.UPDATE.MAIL_0",
        "$JS.API.STREAM.PURGE.MAIL_0",
        "$JS.API.STREAM.DELETE.MAIL_0",
        "$JS.API.CONSUMER.DELETE.STATUS.tracker",
    ):
        await client.publish(call, json.dumps(body).encode())
        assert await refused(client, errors, call), f"{user} may call {call}"
    await client.close()


@pytest.mark.parametrize("user", [*catalog.ROOMS, "status"])
async def test_a_foreign_consumer_cannot_be_pulled_or_acked(bus_server: BusServer, user: str) -> None:
    """MSG.NEXT and ACK work on exactly one's own consumers."""
    errors: list[str] = []
    client = await connected(bus_server, user, errors)
    own = {consumer.reader for consumer in catalog.CONSUMERS}
    targets = {
        "delivery": ("MAIL_0", "transactional-0"),
        "tracker": ("STATUS", "tracker"),
    }
    assert set(targets) == own
    for owner, (stream, consumer) in targets.items():
        if owner == user:
            continue
        for subject in (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", f"$JS.ACK.{stream}.{consumer}.1.1.1.1.0"):
            await client.publish(subject, b"1", reply=f"_INBOX_{user}.x")
            assert await refused(client, errors, subject), f"{user} may use {subject}"
    await client.close()


FOREIGN_RECORDS: dict[str, tuple[str, ...]] = {
    "ingress": ("MAIL_0", "RETRY_0", "STATUS", "KV_keys", "KV_usage", "KV_access"),
    "verifier": ("MAIL_0", "STATUS", "KV_keys", "KV_access", "KV_receipts"),
    "delivery": ("REFUSALS", "AUDIT", "KV_access", "KV_receipts"),
    "tracker": ("AUDIT", "KV_directory", "KV_keys", "KV_access"),
    "control": ("MAIL_0", "RETRY_0", "KV_receipts", "KV_logins", "KV_pressure"),
    "status": ("MAIL_0", "STATUS", "ACCEPTED", "KV_directory", "KV_standing"),
}
"""Streams and buckets whose records a user must not read: who takes a room over should not get what it never uses."""


@pytest.mark.parametrize("user", list(FOREIGN_RECORDS))
async def test_records_a_room_has_no_use_for_cannot_be_read(bus_server: BusServer, user: str) -> None:
    """By none of the calls that give out records."""
    errors: list[str] = []
    client = await connected(bus_server, user, errors)
    for stream in FOREIGN_RECORDS[user]:
        for call in (f"DIRECT.GET.{stream}", f"DIRECT.GET.{stream}.x.y", f"STREAM.MSG.GET.{stream}"):
            await client.publish(f"$JS.API.{call}", b'{"seq":1}', reply=f"_INBOX_{user}.x")
            assert await refused(client, errors, f'"$JS.API.{call}"'), f"{user} may call {call}"
    await client.close()


async def test_the_owner_of_a_consumer_is_not_refused(bus_server: BusServer) -> None:
    """The control of the tests above: the same calls pass for the room they belong to."""
    errors: list[str] = []
    client = await connected(bus_server, "delivery", errors)
    answer = await client.request("$JS.API.CONSUMER.MSG.NEXT.MAIL_0.transactional-0", b'{"no_wait":true}', timeout=30)

    assert (answer.headers or {}).get("Status") == "404"
    assert errors == []
    await client.close()


def test_no_room_is_granted_what_another_alone_writes() -> None:
    """The tables of foreign subjects above name every user but the administrator."""
    assert set(FOREIGN) == set(FOREIGN_READING) == set(users()) - {"provision"}
    assert permissions_of("status", Topology()).publish == ()
