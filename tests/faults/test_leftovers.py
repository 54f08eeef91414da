"""A nats-server that remembers an ack and has the message all the same, as one killed at the wrong moment may."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.delivery.house import delivering
from tests.delivery.world import World, made


def streams(server: BusServer) -> list[Path]:
    """Return the directories of the streams of the mail path."""
    found = [p for p in server.directory.rglob("streams/*") if p.name.startswith(("MAIL_", "RETRY_"))]
    assert found
    return found


def set_back(server: BusServer, kept: Path) -> None:
    """Put the messages back as they were; what the consumers know stays."""
    for stream in streams(server):
        shutil.rmtree(stream / "msgs")
        shutil.copytree(kept / stream.name, stream / "msgs")


async def prepared(world: World, kept: Path, where: str) -> str:
    """Deliver one message, and let the server have it again below the floor of its consumer; return its queue ID."""
    if where == "due":
        world.exchanger.by_recipient["a@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (1.0, b"250 ok\r\n")]
    else:
        world.exchanger.script["RCPT"] = [(1.0, b"250 ok\r\n")]
    envelope = await world.tenant.accept("a@rcpt.test")
    async with delivering(world.server, world.settings()):
        await world.exchanger.until(
            lambda: sum(c.startswith(b"RCPT") for c in world.exchanger.commands) == _tries(where)
        )
        for stream in streams(world.server):
            shutil.copytree(stream / "msgs", kept / stream.name)
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    world.server.stop()
    set_back(world.server, kept)
    world.server.start()
    assert world.tenant.ingress is not None
    async with asyncio.timeout(60):
        while not (await world.tenant.ingress.reached() and await world.watcher.bus.reached()):
            await asyncio.sleep(0.05)
    return envelope.queue_id


def _tries(where: str) -> int:
    return 2 if where == "due" else 1


@pytest.mark.parametrize("where", ["due", "ready"])
async def test_a_message_below_the_floor_is_looked_at_again(bus_server: BusServer, tmp_path: Path, where: str) -> None:
    """It leaves the queue without a second delivery. The control: without the search it stays."""
    async with made(bus_server, tmp_path) as world:
        queue_id = await prepared(world, tmp_path / "kept", where)
        async with delivering(world.server, world.settings(sweep_seconds=3600.0)):
            await world.tenant.accept("control@rcpt.test")
            await world.exchanger.until(
                lambda: any(m.recipients == ["control@rcpt.test"] for m in world.exchanger.received)
            )
            async with asyncio.timeout(60):
                while len(queued := await world.watcher.queued()) > 1:
                    await asyncio.sleep(0.02)
        assert [subject.rpartition(".")[2] for subject in queued] == [queue_id]
        async with delivering(world.server, world.settings(sweep_seconds=0.1)):
            await world.watcher.until_empty()
        assert len([m for m in world.exchanger.received if m.recipients == ["a@rcpt.test"]]) == 1
