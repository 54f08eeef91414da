"""The tracker is killed again and again, and its database lost: in the end it tells what the ledger says."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shared.contract.errors import BusUnavailable, RequestFailed
from shared.contract.events import Event
from tests.bus.test_tracker import System, accepted, attempted, wipe
from tests.bus.test_tracker_process import Process
from tests.bus_server import BusServer

MESSAGES = 1200
KILLS = 5
SETTLE_SECONDS = 90


def story(number: int) -> tuple[Event, list[Event], str]:
    """Return a message's acceptance, its records in order, and its final status."""
    end = ("delivered", "bounced", "deferred")[number % 3]
    records: list[Event] = [attempted(number, "deferred", attempt=n, code=451) for n in range(1, 1 + number % 2)]
    records.append(attempted(number, end, attempt=len(records) + 1))
    return accepted(number), records, end


async def publish_surely(system: System, event: Event) -> None:
    """Publish an event until it is stored; it may be stored twice, as after a lost PubAck."""
    async with asyncio.timeout(60):
        while True:
            try:
                await system.publish(event)
                return
            except BusUnavailable:
                await asyncio.sleep(0.1)


async def told(system: System) -> Counter[str]:
    """Return how many messages the tracker says there are, by status."""
    found: Counter[str] = Counter()
    for status in ("queued", "delivered", "bounced", "deferred"):
        try:
            found[status] = (await system.search(status=status, limit=1)).total
        except (BusUnavailable, RequestFailed):
            return Counter()
    return found


async def settled(system: System, ledger: Counter[str]) -> Counter[str]:
    """Wait until the tracker says what the ledger says; return what it said last."""
    last: Counter[str] = Counter()
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while (last := await told(system)) != ledger:
                await asyncio.sleep(0.2)
    except TimeoutError:
        pass
    return last


async def test_kills_and_a_lost_database_leave_the_counts_of_the_ledger(bus_server: BusServer, tmp_path: Path) -> None:
    """Kill -9 of the tracker and of the bus while events flow, then the database wiped: nothing missing or doubled."""
    chance = random.Random(7)
    system, tracker = System(bus_server, tmp_path), Process(bus_server, tmp_path)
    system.ingress, system.delivery, system.control = [
        await bus_server.connect(room) for room in ("ingress", "delivery", "control")
    ]
    numbers = list(range(1, MESSAGES + 1))
    chance.shuffle(numbers)
    queue: Iterator[int] = iter(numbers)
    published = 0

    async def worker() -> None:
        nonlocal published
        for number in queue:
            first, records, _ = story(number)
            events = [first, *records] if chance.random() < 0.8 else [*records, first]
            for event in events:
                await publish_surely(system, event)
            published += 1

    async def havoc() -> None:
        for kill in range(1, KILLS + 1):
            while published < kill * MESSAGES // (KILLS + 1):
                await asyncio.sleep(0.02)
            await tracker.kill()
            if kill == KILLS // 2:
                bus_server.kill()
                bus_server.start()
            await tracker.start()

    await tracker.start()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(worker())
        tasks.create_task(havoc())
    ledger = Counter(story(number)[2] for number in numbers)

    assert await settled(system, ledger) == ledger
    for number in chance.sample(numbers, 60):
        first, records, end = story(number)
        message = await system.until(number, lambda m: m.message_id != "")  # the counts are of STATUS only
        assert (message.status, message.message_id) == (end, first.message_id)  # type: ignore[attr-defined]
        assert len(message.timeline) == 1 + len(records)

    assert (await tracker.stop())[0] == 0
    wipe(tmp_path / "made")
    await tracker.start()
    assert await settled(system, ledger) == ledger
    assert (await tracker.stop())[0] == 0
    for bus in (system.ingress, system.delivery, system.control):
        await bus.close()
