"""What becomes of deferred messages that fall due while nats-server is dead, or while its store is full."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.bus.permissions import ADMINISTRATOR
from shared.bus.settings import Topology
from shared.contract.envelope import Carriage, Envelope, Progress, RecipientState, pack
from shared.contract.errors import BusUnavailable, StoreFull
from tests.bus_server import BusServer
from tests.delivery.house import delivering
from tests.delivery.world import World, made

COUNT = 20


async def deferred(world: World, due: datetime, count: int = COUNT, text: bytes = b"x\r\n") -> list[Envelope]:
    """Store messages as delivery does after a first attempt, due at a time."""
    made_here = []
    for number in range(count):
        address = f"r{number}@rcpt.test"
        mail = world.tenant.mail(text)
        envelope = world.tenant.envelope(mail, address)
        place = world.tenant.place(envelope)
        state = RecipientState(number=1, address=address, status="deferred", attempts=1, at=datetime.now(UTC))
        progress = Progress(attempt=1, recipients=(state,), due_at=due)
        await world.watcher.bus.store(
            place.later, pack(Carriage(envelope=envelope, progress=progress), mail), stream=f"RETRY_{place.shard}",
            expected_last=0, schedule_at=due, schedule_target=place.due,
        )  # fmt: skip
        made_here.append(envelope)
    return made_here


async def all_once(world: World, envelopes: list[Envelope]) -> None:
    """Wait until all are delivered and nothing is left, and see that each came once."""
    for envelope in envelopes:
        await world.watcher.until(envelope, "delivered", seconds=120)
    await world.watcher.until_empty(60)
    copies = Counter(recipient for message in world.exchanger.seen for recipient in message.recipients)
    assert copies == Counter(envelope.recipients[0].address for envelope in envelopes)


async def test_the_server_is_killed_while_schedules_are_due(bus_server: BusServer, tmp_path: Path) -> None:
    """All fall due while there is no server; when it is back each is delivered, once."""
    async with made(bus_server, tmp_path) as world, delivering(bus_server, world.settings()):
        due = datetime.now(UTC) + timedelta(seconds=12)
        envelopes = await deferred(world, due)
        bus_server.kill()
        assert datetime.now(UTC) < due, "the server was not killed in time"
        while datetime.now(UTC) < due + timedelta(seconds=0.5):
            await asyncio.sleep(0.05)
        assert world.exchanger.seen == []
        await asyncio.to_thread(bus_server.start)
        await all_once(world, envelopes)


async def test_schedules_fall_due_while_the_store_is_full(tmp_path: Path) -> None:
    """What falls due on a full store waits there; when there is room again each is delivered, once."""
    (tmp_path / "nats").mkdir()
    server = BusServer(tmp_path / "nats", Topology(shards=1, slots=2, mail_bytes=8 << 20))
    await asyncio.to_thread(server.start)
    try:
        await server.provision()
        async with made(server, tmp_path) as world:
            due = datetime.now(UTC) + timedelta(seconds=30)
            envelopes = await deferred(world, due)
            state = await world.watcher.bus.stream_state("RETRY_0")
            server.stop()
            server.file_store = "24M"
            await asyncio.to_thread(server.start)
            sizes = [250_000, 8_000, 400, 1]
            while sizes:
                assert datetime.now(UTC) < due, "the store was not filled in time"
                try:
                    await deferred(world, due + timedelta(hours=9), count=1, text=b"\r\n" * sizes[0])
                except StoreFull:
                    sizes.pop(0)  # what is left is filled with smaller ones
                except BusUnavailable:
                    await asyncio.sleep(0.1)  # it is just coming up
            filled = (await world.watcher.bus.stream_state("RETRY_0")).last_sequence
            while datetime.now(UTC) < due + timedelta(seconds=1):
                await asyncio.sleep(0.05)
            still = [place for place in await world.watcher.queued() if ".due." in place]
            assert still == [], "they fell due although the store was full"
            administrator = await server.connect(ADMINISTRATOR)
            for sequence in range(state.last_sequence + 1, filled + 1):
                await administrator.api("STREAM.MSG.DELETE.RETRY_0", {"seq": sequence})
            await administrator.close()
            async with delivering(server, world.settings(overdue_seconds=1.0)):
                await all_once(world, envelopes)
    finally:
        server.stop()
