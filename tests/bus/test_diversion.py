"""A room that has the server answer on a subject of another room is not believed there.

Each test has a control: the same octets, published by the room that may, are taken.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import pytest

from shared.bus import service
from shared.bus.client import Bus
from shared.bus.hearing import hearing
from shared.bus.kv import Bucket, Change
from shared.bus.replica import Replica
from shared.bus.streams import PullConsumer
from shared.contract import subjects
from shared.contract.errors import RecordUnreadable
from shared.contract.records import DirectoryRecord, Instance
from shared.contract.requests import QUEUE_ACT, QueueAction
from shared.contract.subjects import Place
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block

FORGED = Instance(id="forged", name="forged", created_at=datetime(2026, 1, 1, tzinfo=UTC))
QUIET_SECONDS = 1.0
Divert = Callable[[Bus, bytes, str], Awaitable[None]]


async def by_direct_get(room: Bus, octets: bytes, target: str) -> None:
    """Have the server read a record of the room's own to the target."""
    await room.store("$KV.logins.x", octets, stream="KV_logins")
    await room.nc.publish("$JS.API.DIRECT.GET.KV_logins.$KV.logins.x", b"", reply=target)
    await room.reached()


async def by_message_get(room: Bus, octets: bytes, target: str) -> None:
    """Do the same with the older call, whose answer wraps the octets."""
    sequence = await room.store("$KV.logins.x", octets, stream="KV_logins")
    await room.nc.publish("$JS.API.STREAM.MSG.GET.KV_logins", msgspec.json.encode({"seq": sequence}), reply=target)
    await room.reached()


async def by_batch(room: Bus, octets: bytes, target: str) -> None:
    """Do the same with a scan."""
    await room.store("$KV.logins.x", octets, stream="KV_logins")
    wish = {"batch": 5, "seq": 1, "next_by_subj": "$KV.logins.>"}
    await room.nc.publish("$JS.API.DIRECT.GET.KV_logins", msgspec.json.encode(wish), reply=target)
    await room.reached()


DIVERSIONS = pytest.mark.parametrize("divert", [by_direct_get, by_message_get, by_batch])


def change() -> bytes:
    """Return the broadcast of a record that does not exist."""
    value = base64.b64encode(msgspec.json.encode(FORGED)).decode()
    return msgspec.json.encode(Change(key="instance.forged", revision=10**9, value=value))


@DIVERSIONS
async def test_a_replica_takes_no_diverted_change(bus_server: BusServer, divert: Divert) -> None:
    """Ingress cannot slip a record into delivery's directory; control can."""
    ingress, delivery, control = [await bus_server.connect(room) for room in ("ingress", "delivery", "control")]
    taken: asyncio.Queue[str] = asyncio.Queue()
    replica: Replica[DirectoryRecord] = Replica(
        delivery, "directory", DirectoryRecord, lambda key, _record: taken.put_nowait(key)
    )
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        await delivery.reached()
        await divert(ingress, change(), subjects.changed("directory"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await taken.get()
        await control.publish(subjects.changed("directory"), change())
        async with asyncio.timeout(30):
            assert await taken.get() == "instance.forged"
    for bus in (ingress, delivery, control):
        await bus.close()


@DIVERSIONS
async def test_a_service_answers_no_diverted_request(bus_server: BusServer, divert: Divert) -> None:
    """Ingress cannot have delivery drop a message; control can."""
    ingress, delivery, control = [await bus_server.connect(room) for room in ("ingress", "delivery", "control")]
    asked: asyncio.Queue[QueueAction] = asyncio.Queue()

    async def act(wish: QueueAction) -> msgspec.Struct:
        asked.put_nowait(wish)
        return wish

    answering = await service.serve(delivery, "delivery", "test", {QUEUE_ACT: (QueueAction, act)})
    wish = QueueAction(action="drop", queue_id="q", by="me", reason="malice")
    await divert(ingress, msgspec.json.encode(wish), QUEUE_ACT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_SECONDS):
            await asked.get()
    await service.ask(control, QUEUE_ACT, wish, QueueAction)
    assert await asked.get() == wish
    await answering.close()
    for bus in (ingress, delivery, control):
        await bus.close()


async def test_what_a_consumer_hands_out_is_not_heard(bus_server: BusServer) -> None:
    """Delivery cannot have its mail appear as an event; what ingress publishes is heard."""
    ingress, delivery, control = [await bus_server.connect(room) for room in ("ingress", "delivery", "control")]
    place = Place(0, "transactional", 0, "c", "q")
    await ingress.store(place.ready, b"forged", stream="MAIL_0")
    subject = subjects.accepted("i", "c", "q")
    async with hearing(control, ["postlane.accepted.>"]) as heard:
        wish = msgspec.json.encode({"batch": 1, "no_wait": True})
        await delivery.nc.publish("$JS.API.CONSUMER.MSG.NEXT.MAIL_0.transactional-0", wish, reply=subject)
        await delivery.reached()
        assert await heard.next(QUIET_SECONDS) is None
        await ingress.publish(subject, b"true")
        assert await heard.next(30) == (subject, b"true")
    for bus in (ingress, delivery, control):
        await bus.close()


DISGUISES = {
    "none": "",
    "its own stream": "Nats-Expected-Stream: KV_logins\r\n",
    "a space before the colon": "Nats-Expected-Stream : {0}\r\n",
    "in small letters": "nats-expected-stream: {0}\r\n",
    "an empty one first": "Nats-Expected-Stream:\r\nNats-Expected-Stream: {0}\r\n",
    "its own stream first": "Nats-Expected-Stream: KV_logins\r\nNats-Expected-Stream: {0}\r\n",
    "a schedule": "Nats-Scheduler: postlane.retry.0.later.x\r\n",
    "a status": "Status: 404\r\n",
    "a deletion": "KV-Operation: DEL\r\n",
}


async def diverted_into(room: Bus, octets: bytes, lines: str, target: str, *, older: bool) -> None:
    """Store a record of the room's own with these header lines, and have the server read it to the target.

    The same reading to the room itself follows: once that has come, the server has passed on the first one.
    """
    head = f"NATS/1.0\r\n{lines}\r\n".encode()
    inbox = room.nc.new_inbox()
    answer = await room.nc.subscribe(inbox)
    command = f"HPUB $KV.logins.x {inbox} {len(head)} {len(head) + len(octets)}\r\n".encode()
    await room.nc._send_command(command + head + octets + b"\r\n")
    await room.nc._flush_pending()
    await answer.next_msg(10)  # stored, or refused
    await answer.unsubscribe()
    wish = msgspec.json.encode({"last_by_subj": "$KV.logins.x"}) if older else b""
    call = "STREAM.MSG.GET.KV_logins" if older else "DIRECT.GET.KV_logins.$KV.logins.x"
    await room.nc.publish(f"$JS.API.{call}", wish, reply=target)
    await room.nc.request(f"$JS.API.{call}", wish, timeout=10)


@pytest.mark.parametrize("replicas", [1, 3])  # read from any server, and from the leader
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("disguise", list(DISGUISES))
async def test_a_diverted_record_is_not_believed_in_a_bucket(
    bus_server: BusServer, disguise: str, older: bool, replicas: int
) -> None:
    """Ingress cannot put anything into the directory, nor take anything out of it."""
    ingress, control = await bus_server.connect("ingress"), await bus_server.connect("control")
    control.replicas = replicas
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    true = msgspec.structs.replace(FORGED, name="true")
    await bucket.put("instance.forged", true)
    replica: Replica[DirectoryRecord] = Replica(ingress, "directory", DirectoryRecord)
    await replica._load()
    lines = DISGUISES[disguise].format("KV_directory")
    await diverted_into(ingress, msgspec.json.encode(FORGED), lines, "$KV.directory.instance.forged", older=older)
    if (await control.stream_state("KV_directory")).last_sequence > 1:  # else the server has refused it
        with pytest.raises(RecordUnreadable):
            await bucket.get("instance.forged")
    await bucket.put("instance.behind", true)
    await replica._load()
    assert (replica.get("instance.forged"), replica.get("instance.behind")) == (true, true)
    await bucket.put("instance.forged", FORGED)
    await replica._load()
    assert replica.get("instance.forged") == FORGED
    for bus in (ingress, control):
        await bus.close()


@pytest.mark.parametrize("disguise", list(DISGUISES))
async def test_a_diverted_record_is_not_believed_by_a_consumer(bus_server: BusServer, disguise: str) -> None:
    """Ingress cannot have delivery take up a message of its making as one that has been tried."""
    ingress, delivery = await bus_server.connect("ingress"), await bus_server.connect("delivery")
    due = Place(0, "transactional", 1, "c", "q").due
    await diverted_into(ingress, b"forged", DISGUISES[disguise].format("RETRY_0"), due, older=False)
    await delivery.store(due, b"true", stream="RETRY_0")
    consumer = PullConsumer(delivery, "RETRY_0", "due-transactional-1")
    payloads: list[bytes] = []
    while b"true" not in payloads:
        payloads += [each.payload for each in await consumer.fetch(10, 1 << 20, 5)]
    assert set(payloads) <= {b"", b"true"}
    for bus in (ingress, delivery):
        await bus.close()
