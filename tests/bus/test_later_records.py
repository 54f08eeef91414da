"""Records of a later version in a bucket: kept when changed, and never taken for something else (U03)."""

import json
from functools import partial
from typing import Any

import pytest
from nats.aio.msg import Msg

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.bus.roll_call import call_roll
from shared.contract.errors import RecordUnreadable
from shared.contract.examination import ROLL_CALL, CallRoll
from shared.contract.records import DirectoryRecord, Instance
from tests.bus_server import BusServer
from tests.ingress_process import AT

KEY = "instance.a"
RECORD: dict[str, Any] = {"type": "instance.v1", "id": "a", "name": "a", "created_at": "2026-01-01T00:00:00Z"}


async def written(bus: Bus, record: dict[str, Any]) -> None:
    """Write a record as a later version."""
    await bus.store(f"$KV.directory.{KEY}", json.dumps(record).encode(), stream="KV_directory")


async def test_a_change_keeps_what_it_does_not_know(bus_server: BusServer) -> None:
    """Also a second change, made on what the first one returned."""
    control = await bus_server.connect("control")
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    await written(control, RECORD | {"added_later": {"x": 1}})
    entry = await bucket.get(KEY)
    assert entry is not None
    revision = await bucket.update(KEY, Instance(id="a", name="b", created_at=AT), entry.revision)
    await bucket.update(KEY, Instance(id="a", name="c", created_at=AT), revision)
    stored = await control.last("KV_directory", f"$KV.directory.{KEY}")
    assert stored is not None
    assert json.loads(stored.payload) == RECORD | {"added_later": {"x": 1}, "name": "c"}
    await control.close()


async def test_a_record_it_cannot_read_is_not_a_missing_one(bus_server: BusServer) -> None:
    """Asked for it says so; a replica keeps the one before, and names it, until one that can be read comes."""
    control = await bus_server.connect("control")
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    await bucket.create(KEY, Instance(id="a", name="a", created_at=AT))
    moved: list[str] = []
    replica: Replica[DirectoryRecord] = Replica(
        control, "directory", DirectoryRecord, lambda key, _record: moved.append(key)
    )
    await replica._load()
    await written(control, RECORD | {"type": "instance.v2"})
    with pytest.raises(RecordUnreadable):
        await bucket.get(KEY)
    with pytest.raises(RecordUnreadable):
        await bucket.entries()
    await replica._load()
    assert replica.unreadable == {KEY}
    assert isinstance(kept := replica.get(KEY), Instance)
    assert kept.name == "a"
    assert moved == [KEY, KEY]  # whoever decides with it is told
    await bucket.put(KEY, Instance(id="a", name="b", created_at=AT))
    await replica._load()
    assert replica.unreadable == set()
    await control.close()


async def test_a_room_that_answers_the_roll_call_in_other_words(bus_server: BusServer) -> None:
    """It is there, and so are the others."""
    control = await bus_server.connect("control")
    strange = {"check": "c", "state": "dire", "sentence": "s"}
    present = {"at": "2026-01-01T00:00:00Z", "waiting_for": {}}
    answers: dict[str, dict[str, Any]] = {
        "verifier": present | {"room": "verifier", "process": "host:1", "findings": [strange]},
        "tracker": present | {"room": "tracker", "process": "host:2"},
        "ingress": {"room": 1},
    }
    rooms = [await bus_server.connect(room) for room in answers]
    for bus in rooms:
        await bus.nc.subscribe(ROLL_CALL, cb=partial(_answer, answers[bus.room]))
        assert await bus.reached()
    heard = await call_roll(control, CallRoll(), answers.keys() - {"ingress"}, 5)
    assert {each.process: [finding.check for finding in each.findings] for each in heard} == {
        "host:1": ["version"],
        "host:2": [],
    }
    for bus in (control, *rooms):
        await bus.close()


async def _answer(said: dict[str, Any], message: Msg) -> None:
    await message.respond(json.dumps(said).encode())
