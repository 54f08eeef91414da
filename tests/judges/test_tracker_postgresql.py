"""The tracker's replicas on one real PostgreSQL: they share the work and tell the same."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from services.command.ports import free_port
from services.tracker.auditor import Auditor
from services.tracker.core.fact import SOURCES
from services.tracker.settings import TrackerSettings
from services.tracker.store import Store
from shared.bus.service import ask
from shared.contract import errors, requests
from shared.contract.errors import RequestFailed
from shared.contract.requests import CountMessages, MessageCounts
from tests.bus.test_tracker import CONFIGURATION, INSTANCE, NOON, System, accepted, attempted, queue_id
from tests.bus.test_tracker_audit import put_ready
from tests.bus.test_tracker_store import is_of_one_moment
from tests.bus_server import BusServer

pytestmark = pytest.mark.judge


def program(name: str) -> str:
    """Return a program of PostgreSQL, which Debian keeps out of the path."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        pytest.skip(f"{name} is not installed and could not be")
    return found


class Database:
    """A PostgreSQL of the test's own on a free port."""

    def __init__(self) -> None:
        self.directory = Path(mkdtemp(prefix="postlane-pg-"))
        self.port = free_port()
        self.url = f"postgresql://tracker@127.0.0.1:{self.port}/postgres"
        self._as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data = str(self.directory / "data")
        made = [program("initdb"), "-D", self._data, "-A", "trust", "-U", "tracker", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=self.directory, **self._as_user)
        self._server: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [program("postgres"), "-D", self._data, "-h", "127.0.0.1", "-p", str(self.port)]
        self._server = subprocess.Popen(
            [*command, "-k", str(self.directory), "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.directory, **self._as_user,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            store = Store(self.url)
            try:
                with store.engine.connect():
                    return
            except SQLAlchemyError:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.1)
            finally:
                store.close()

    def stop(self) -> None:
        """Stop it without waiting for its clients."""
        self._server.send_signal(signal.SIGINT)
        self._server.wait(20)


@pytest.fixture
def database() -> Iterator[Database]:
    """Give a test a running PostgreSQL."""
    made = Database()
    made.start()
    yield made
    made.stop()
    shutil.rmtree(made.directory)


@pytest.fixture
async def relay(bus_server: BusServer, tmp_path: Path, database: Database) -> AsyncIterator[System]:
    """Give a test a bus with connected rooms, and trackers on PostgreSQL."""
    made = System(bus_server, tmp_path)
    made.settings = TrackerSettings(database_url=database.url, wait_seconds=1, retry_seconds=0.1, batch=20)
    made.ingress = await bus_server.connect("ingress")
    made.delivery = await bus_server.connect("delivery")
    made.control = await bus_server.connect("control")
    yield made
    for bus in (made.ingress, made.delivery, made.control):
        await bus.close()


async def test_it_waits_for_a_database_that_is_away(relay: System, database: Database) -> None:
    """Stopped before the tracker starts, and again while events come: it says so, answers errors, and catches up."""
    await asyncio.to_thread(database.stop)
    async with relay.tracker() as room:
        async with asyncio.timeout(60):
            while "cannot" not in room.conditions.failing.get("database", ""):
                await asyncio.sleep(0.05)
        await asyncio.to_thread(database.start)
        await relay.publish(accepted(1))
        await relay.until(1, lambda m: m.sender != "")

        await asyncio.to_thread(database.stop)
        await relay.publish(accepted(2), attempted(1, "delivered"))
        async with asyncio.timeout(60):
            while "cannot" not in room.conditions.failing.get("status events", ""):
                await asyncio.sleep(0.05)
        with pytest.raises(RequestFailed) as failure:
            await relay.describe(1)
        await asyncio.to_thread(database.start)
        await relay.until(1, lambda m: m.status == "delivered", 60)
        await relay.until(2, lambda m: m.sender != "", 60)
        async with asyncio.timeout(60):
            while room.conditions.failing.keys() - {"start"}:
                await asyncio.sleep(0.05)
    assert failure.value.code == errors.NOT_READY


async def test_two_replicas_share_one_database(relay: System) -> None:
    """Both project, both answer; nothing is told twice and nothing is missing; one may go."""
    numbers = range(1, 301)
    async with contextlib.AsyncExitStack() as trackers:
        await trackers.enter_async_context(relay.tracker())
        async with relay.tracker():
            await relay.publish(*(accepted(n) for n in numbers))
            await asyncio.gather(
                *(relay.publish(*(attempted(n, "deferred", code=451) for n in numbers[i::4])) for i in range(4))
            )
            await relay.until(300, lambda m: m.status == "deferred" and m.sender != "", 30)
        await relay.publish(*(attempted(n, "delivered", attempt=2) for n in numbers))
        for number in numbers:
            # What the replica that went had taken and not written yet comes again, later than what is newer.
            told = await relay.until(
                number, lambda m: m.status == "delivered" and m.sender != "" and len(m.timeline) > 2, 60
            )
            assert [entry.what for entry in told.timeline] == ["accepted", "attempted", "attempted"]
        found = await relay.search(status="delivered", recipient="ann@example.org", limit=500)
        wish = CountMessages(
            instance=INSTANCE, configuration=CONFIGURATION, since=NOON, until=NOON.replace(hour=13), bucket_seconds=3600
        )
        (counts,) = (await ask(relay.control, requests.COUNT, wish, MessageCounts)).buckets
    assert found.total == 300
    assert (counts.submitted, counts.success, counts.deferred, counts.bounced) == (300, 300, 300, 0)


async def test_a_text_the_database_cannot_keep_stops_nothing(relay: System) -> None:
    """NUL in texts, and a number too great for a column: the event is kept, the others go on."""
    monstrous = msgspec.structs.replace(accepted(2), size=1 << 62, subject="a\x00b", client_name="\x00")
    impossible = msgspec.structs.replace(attempted(3, "deferred"), attempt=1 << 40)
    async with relay.tracker():
        await relay.publish(accepted(1), monstrous, accepted(3), impossible, accepted(4))
        await relay.until(4, lambda m: m.sender != "")
        assert (await relay.until(2, lambda m: m.sender != "")).subject == "a\ufffdb"
        told = await relay.until(3, lambda m: len(m.timeline) == 2)
    assert [entry.what for entry in told.timeline] == ["accepted", "unprojectable"]


def test_a_message_is_told_as_of_one_moment(database: Database) -> None:
    """Here another replica writes while one reads."""
    reader, writer = Store(database.url), Store(database.url)
    reader.prepare()
    for source in SOURCES:
        reader.position(source, "made today")
    is_of_one_moment(reader, writer)
    reader.close()
    writer.close()


async def test_replicas_audit_and_reconcile_one_database(relay: System) -> None:
    """Both believe the same of what is missing, and one acceptance is made for each message without one."""
    for number in range(1, 21):
        await put_ready(relay, number)
    await relay.publish(*(accepted(number) for number in range(30, 35)), attempted(34, "deferred", code=451))
    async with relay.tracker(msgspec.structs.replace(relay.settings, audit_seconds=3600)):
        await relay.until(34, lambda m: m.sender != "" and m.status == "deferred")
    bus = await relay.server.connect("tracker")
    stores = [Store(relay.settings.database_url) for _ in range(2)]
    registries = [CollectorRegistry() for _ in stores]
    auditors = [
        Auditor(bus, store, relay.settings, relay.server.topology.shards, registry)
        for store, registry in zip(stores, registries, strict=True)
    ]
    await asyncio.gather(*(auditor.round() for auditor in auditors))
    alarms = await asyncio.gather(*(auditor.round() for auditor in auditors))
    await bus.close()
    for store in stores:
        store.close()

    assert [alarm.raised for alarm in alarms] == [tuple(queue_id(number) for number in range(30, 35))] * 2
    made = [registry.get_sample_value("postlane_tracker_reconstructed_total") or 0 for registry in registries]
    assert sum(made) == 20
    queued = [registry.get_sample_value("postlane_audit_messages", {"state": "queued"}) for registry in registries]
    assert queued == [20, 20]
