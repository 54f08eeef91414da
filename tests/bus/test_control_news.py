"""Control answers a request once it sees what delivery or the verifier has done for it, however late the news come."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.control import directory as module
from services.control.directory import Directory
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.records import Suppression
from shared.contract.standing import Standing
from shared.contract.subjects import suppression
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block

AT = datetime(2026, 11, 1, tzinfo=UTC)
ADDRESS = "ann@gone.example"
KEY = suppression("c", ADDRESS)


async def test_what_was_asked_for_is_seen(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address entered and taken off, a check made: while the news are on their way, the answer waits."""
    monkeypatch.setattr(module, "CATCH_UP_SECONDS", 60.0)
    arrive, heard = asyncio.Event(), Replica._heard

    async def late(replica: Replica[Suppression], subject: str, body: bytes) -> None:
        await arrive.wait()
        await heard(replica, subject, body)

    monkeypatch.setattr(Replica, "_heard", late)
    control, delivery, verifier = [await bus_server.connect(room) for room in ("control", "delivery", "verifier")]
    entries: Bucket[Suppression] = Bucket(delivery, "suppressions", Suppression)
    standings: Bucket[Standing] = Bucket(verifier, "standing", Standing)
    entry = Suppression(configuration="c", address=ADDRESS, reason="asked to", queue_id="", at=AT)
    standing = Standing(
        configuration="c", instance="i", domain="d.example", state="verified", reason="", since=AT, checked_at=AT
    )
    directory = Directory(control, 60.0)

    async def waited_for(news: asyncio.Task[None]) -> None:
        await asyncio.sleep(0)
        assert not news.done()
        arrive.set()
        await news
        arrive.clear()

    async with tasks_of_a_block() as tasks:
        await directory.start(tasks)
        await entries.create(KEY, entry)
        assert directory.suppressions.get(KEY) is None
        await waited_for(asyncio.create_task(directory.suppresses("c", ADDRESS, wanted=True)))
        assert directory.suppressions.get(KEY) == entry
        await entries.delete(KEY)
        await waited_for(asyncio.create_task(directory.suppresses("c", ADDRESS, wanted=False)))
        assert directory.suppressions.get(KEY) is None
        await standings.create("c", standing)
        await waited_for(asyncio.create_task(directory.stands(standing)))
        assert directory.standings.get("c") == standing
        arrive.set()
    for bus in (control, delivery, verifier):
        await bus.close()
