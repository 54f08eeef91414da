"""The tracker's replicas on one real PostgreSQL: they share the work and tell the same."""

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import msgspec
import pytest
from sqlalchemy.exc import SQLAlchemyError

from services.tracker.settings import TrackerSettings
from services.tracker.store import Store
from shared.bus.service import ask
from shared.contract import requests
from shared.contract.requests import CountMessages, MessageCounts
from tests.bus.test_tracker import CONFIGURATION, INSTANCE, NOON, System, accepted, attempted
from tests.bus_server import BusServer, free_port

pytestmark = pytest.mark.judge


def program(name: str) -> str:
    """Return a program of PostgreSQL, which Debian keeps out of the path."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None
    )
    if found is None:
        pytest.skip(f"{name} is not installed and could not be")
    return found


@pytest.fixture
def database_url() -> Iterator[str]:
    """Run a PostgreSQL of the test's own on a free port."""
    initdb, postgres = program("initdb"), program("postgres")
    directory = Path(mkdtemp(prefix="postlane-pg-"))
    as_user: dict[str, object] = {}
    if os.getuid() == 0:  # it refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, port = directory / "data", free_port()
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "tracker", "-E", "UTF8", "--no-sync"],
        check=True, capture_output=True, cwd=directory, **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    server = subprocess.Popen(
        [postgres, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", directory, "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory, **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    url = f"postgresql://tracker@127.0.0.1:{port}/postgres"
    try:
        deadline = time.monotonic() + 30
        while True:
            store = Store(url)
            try:
                with store.engine.connect():
                    break
            except SQLAlchemyError:
                assert time.monotonic() < deadline, "PostgreSQL did not start"
                time.sleep(0.1)
            finally:
                store.close()
        yield url
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(directory)


@pytest.fixture
async def relay(bus_server: BusServer, tmp_path: Path, database_url: str) -> AsyncIterator[System]:
    """Give a test a bus with connected rooms, and trackers on PostgreSQL."""
    made = System(bus_server, tmp_path)
    made.settings = TrackerSettings(database_url=database_url, wait_seconds=1, retry_seconds=0.1, batch=20)
    made.ingress = await bus_server.connect("ingress")
    made.delivery = await bus_server.connect("delivery")
    made.control = await bus_server.connect("control")
    yield made
    for bus in (made.ingress, made.delivery, made.control):
        await bus.close()


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
            told = await relay.until(number, lambda m: m.status == "delivered" and m.sender != "", 40)
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
