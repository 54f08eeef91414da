"""What a replica was not told of, or was told wrongly, it finds out by itself."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.permissions import ADMINISTRATOR
from shared.bus.replica import Replica
from shared.bus.stored import Stored
from shared.contract.errors import BusUnavailable
from shared.contract.records import DirectoryRecord, Instance
from tests.bus_server import BusServer
from tests.ingress_process import AT
from tests.patience import tasks_of_a_block, until


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replicas compare often."""
    monkeypatch.setattr("shared.bus.replica.COMPARE_SECONDS", 0.1)


def instance(name: str) -> Instance:
    return Instance(id=name, name=name, created_at=AT)


async def until_named(replica: Replica[DirectoryRecord], key: str, name: str) -> None:
    """Wait until the replica has a record of this name under a key."""
    await until(f"{key} is {name}", lambda: replica.get(key) == instance(name))


@asynccontextmanager
async def followed(server: BusServer) -> AsyncIterator[tuple[Bus, Bucket[DirectoryRecord], Replica[DirectoryRecord]]]:
    """Give the writer's connection, its bucket with one record, and a replica elsewhere that has it."""
    control, ingress = await server.connect("control"), await server.connect("ingress")
    bucket: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
    replica: Replica[DirectoryRecord] = Replica(ingress, "directory", DirectoryRecord)
    await bucket.put("instance.a", instance("a"))
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        assert replica.get("instance.a") == instance("a")
        yield control, bucket, replica
    await control.close()
    await ingress.close()


async def test_what_nobody_told_of_is_missed_although_the_next_change_was_told(bus_server: BusServer) -> None:
    """The writer was killed after its record was stored, or never had the answer; another one goes on."""
    async with followed(bus_server) as (control, bucket, replica):
        await control.store("$KV.directory.instance.a", msgspec.json.encode(instance("b")), stream="KV_directory")
        await bucket.put("instance.other", instance("other"))
        await until_named(replica, "instance.other", "other")
        await until_named(replica, "instance.a", "b")


async def test_changes_told_in_another_order_are_all_known(bus_server: BusServer) -> None:
    """Two writers may tell of their changes the wrong way round: nothing is read again for that."""
    async with followed(bus_server) as (_, _, replica):
        for revision in (4, 3, 2, 6, 5):
            change = {"key": f"instance.{revision}", "revision": revision, "value": None}
            await replica._heard("", msgspec.json.encode(change))
        assert replica._known == 6
        assert not replica._ahead


async def test_a_bucket_made_anew_that_has_grown_beyond_the_old_one(bus_server: BusServer) -> None:
    """Its revisions say nothing against those of the bucket before."""
    administrator = await bus_server.connect(ADMINISTRATOR)
    async with followed(bus_server) as (_, bucket, replica):
        for _ in range(3):
            await bucket.put("instance.a", instance("old"))
        await until_named(replica, "instance.a", "old")
        await administrator.api("STREAM.DELETE.KV_directory")
        await bus_server.provision()
        await bucket.put("instance.a", instance("new"))
        for number in range(6):
            await bucket.put(f"instance.{number}", instance("more"))
        await until_named(replica, "instance.a", "new")
    await administrator.close()


async def test_a_bucket_nobody_answers_for_is_not_empty(bus_server: BusServer) -> None:
    """As when the servers of a stream are still coming up: what is known stays, and is read later."""
    administrator = await bus_server.connect(ADMINISTRATOR)
    config = (await administrator.api("STREAM.INFO.KV_directory"))["config"]
    async with followed(bus_server) as (control, _, replica):
        assert "error" not in await administrator.api("STREAM.UPDATE.KV_directory", config | {"allow_direct": False})
        with pytest.raises(BusUnavailable, match="503"):
            await anext(control.scan("KV_directory", ">"))
        with pytest.raises(BusUnavailable):
            await replica._load()
        assert replica.get("instance.a") == instance("a")
    await administrator.close()


async def test_a_follower_that_lags_is_not_believed(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any server of a cluster answers a scan; what the newest record does not stand in is asked for again."""
    async with followed(bus_server) as (_, bucket, replica):
        scan = Bus.scan

        async def lagging(self: Bus, stream: str, subject: str) -> AsyncGenerator[Stored, None]:
            async for stored in scan(self, stream, subject):
                if stored.sequence < 3:
                    yield stored

        await bucket.put("instance.b", instance("b"))
        await bucket.put("instance.c", instance("c"))
        await until_named(replica, "instance.c", "c")
        monkeypatch.setattr(Bus, "scan", lagging)
        with pytest.raises(BusUnavailable, match="lags behind"):
            await replica._load()
        assert replica.get("instance.c") == instance("c")
