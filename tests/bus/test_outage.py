"""What the log says while the bus is away: that it is, once, however long it takes."""

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec
import pytest

from services.command.ports import free_port
from services.ingress.journal import Journal, Posting
from shared.bus.client import Bus, connect
from shared.bus.connection import Connection
from shared.bus.replica import Replica
from shared.contract.errors import BusUnavailable
from shared.contract.records import DirectoryRecord
from shared.runtime.secret import Secret
from tests.bus_server import BusServer
from tests.patience import ended, tasks_of_a_block, until


async def test_an_outage_is_said_once(
    bus_server: BusServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither each trial to connect nor each look at a bucket or try of a journal is a line of its own."""
    caplog.set_level(logging.INFO)
    tried: Counter[str] = Counter()

    async def report(self: Connection, fault: Exception, said: object = Connection._on_error) -> None:
        tried["connect"] += 1
        await said(self, fault)  # type: ignore[operator]  # the method itself

    async def load(self: Replica[DirectoryRecord], loads: object = Replica._load) -> None:
        tried["read"] += 1
        await loads(self)  # type: ignore[operator]  # the method itself

    async def publish(self: Journal, batch: list[Posting], publishes: object = Journal._publish) -> list[Posting]:
        tried["publish"] += 1
        left: list[Posting] = await publishes(self, batch)  # type: ignore[operator]  # the method itself
        return left

    monkeypatch.setattr(Connection, "_on_error", report)
    monkeypatch.setattr(Replica, "_load", load)
    monkeypatch.setattr(Journal, "_publish", publish)
    bus = await bus_server.connect("ingress")
    replica: Replica[DirectoryRecord] = Replica(bus, "directory", DirectoryRecord)
    journal = Journal(bus, "refused", 100, 1)
    async with tasks_of_a_block() as tasks:
        await replica.start(tasks)
        journal.start(tasks)
        for _ in range(2):
            tried.clear()
            caplog.clear()
            bus_server.kill()
            await until("the bus is lost", lambda: not bus.connected)
            replica._reread.set()
            for number in range(20):
                assert journal.post(Posting("postlane.refused.i.c", "REFUSALS", f"id{number}", b"{}"))
            await until("all try again", lambda: all(tried[what] > 3 for what in ("connect", "read", "publish")), 60)
            lines = Counter(record.getMessage() for record in caplog.records)
            assert lines["the connection to the bus is lost, reconnecting"] == 1
            assert set(lines.values()) == {1}
            assert not [line for line in lines if "could not be" in line]
            await asyncio.to_thread(bus_server.start)
            assert await journal.settle(60)
    await bus.close()


async def test_what_a_first_connection_waits_for_is_said_once(
    bus_server: BusServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the bus was looked for and why it is not there; until then a room says nothing else of it."""
    settings = msgspec.structs.replace(bus_server.settings("ingress"), url=f"nats://127.0.0.1:{(port := free_port())}")
    tried: Counter[str] = Counter()
    bus = Bus("ingress", settings.replicas)
    said = bus._tried

    def count(*arguments: Any) -> None:
        tried["connect"] += 1
        said(*arguments)

    bus._tried = count  # type: ignore[method-assign, assignment]
    opening = asyncio.create_task(bus.open(settings))
    await until("it tries again", lambda: tried["connect"] > 2, 60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"waiting for the bus at nats://127.0.0.1:{port}: ")
    await ended(opening)


async def test_a_wrong_password_ends_the_wait(bus_server: BusServer) -> None:
    """To go on trying would not help, and would look like a bus that is away."""
    settings = msgspec.structs.replace(bus_server.settings("ingress"), password=Secret("wrong"))
    async with asyncio.timeout(60):
        with pytest.raises(BusUnavailable, match="refuses user 'ingress'"):
            await connect(settings, "ingress")


async def test_what_fails_while_it_is_away_says_so(bus_server: BusServer) -> None:
    """Not in the words of the client, which speak of a buffer; and to close the connection then is no fault."""
    bus: Bus = await bus_server.connect("ingress")
    bus_server.kill()
    await until("the bus is lost", lambda: not bus.connected)
    with pytest.raises(BusUnavailable, match="the bus is away"):
        await bus.stream_state("KV_directory")
    await bus.close()
