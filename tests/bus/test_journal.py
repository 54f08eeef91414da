"""Journals on a real bus: events that come together lie in pages, and each is said once it is stored."""

import asyncio

import msgspec
import pytest

from services.ingress import journal
from services.ingress.journal import Journal, PagedJournal, Posting
from shared.bus.client import Bus
from shared.bus.hearing import hearing
from shared.contract import page, subjects
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block

SETTLE_SECONDS = 60.0


def posting(number: int, octets: int = 0) -> Posting:
    body = msgspec.json.encode({"number": number, "filling": "x" * octets})
    return Posting(subjects.accepted("i", "c", f"q{number}"), "ACCEPTED", f"q{number}", body)


async def lying(bus: Bus) -> list[list[int]]:
    """Return the numbers on each page of the stream."""
    return [
        [msgspec.json.decode(line)["number"] for line in page.lines(stored.payload)]
        async for stored in bus.scan("ACCEPTED", subjects.ACCEPTANCES)
    ]


async def written(made: Journal, *postings: Posting) -> None:
    """Have a journal write some events, and end it."""
    async with tasks_of_a_block() as tasks:
        made.start(tasks)
        for each in postings:
            assert made.post(each)
        assert await made.settle(SETTLE_SECONDS)


async def test_events_that_come_together_are_one_record(bus_server: BusServer) -> None:
    """Fifty are stored in order on one page; each is heard on its own subject, once."""
    ingress, tracker, control = [await bus_server.connect(room) for room in ("ingress", "tracker", "control")]
    sent = [posting(number) for number in range(50)]
    async with hearing(control, ["postlane.accepted.>"]) as heard:
        await written(PagedJournal(ingress, "accepted", 100, subjects.ACCEPTANCES), *sent)
        assert await lying(tracker) == [list(range(50))]
        assert [await heard.next(30) for _ in sent] == [(each.subject, each.body) for each in sent]
        assert await heard.next(0.2) is None
    for bus in (ingress, tracker, control):
        await bus.close()


async def test_a_page_is_of_bounded_size(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From so many octets on the next event begins another page."""
    monkeypatch.setattr(journal, "PAGE_BYTES", 1_000)
    ingress, tracker = [await bus_server.connect(room) for room in ("ingress", "tracker")]
    await written(
        PagedJournal(ingress, "accepted", 100, subjects.ACCEPTANCES),
        posting(0, 400), posting(1, 400), posting(2, 400), posting(3, 2_000), posting(4),
    )  # fmt: skip
    assert await lying(tracker) == [[0, 1, 2], [3], [4]]
    await ingress.close()
    await tracker.close()


async def test_an_event_that_comes_twice_takes_no_other_one_with_it(bus_server: BusServer) -> None:
    """Pages that begin with the same event are two pages; the very same page again is a repetition."""
    ingress, tracker = [await bus_server.connect(room) for room in ("ingress", "tracker")]
    made = PagedJournal(ingress, "accepted", 100, subjects.ACCEPTANCES)
    for postings in ([posting(0)], [posting(0), posting(1)], [posting(0)]):
        await written(made, *postings)
    assert await lying(tracker) == [[0], [0, 1]]
    await ingress.close()
    await tracker.close()


async def test_a_page_is_repeated_as_it_was(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that come while the bus is away lie on one page afterwards, once."""
    monkeypatch.setattr(journal, "RETRY_SECONDS", 0.1)
    ingress = await bus_server.connect("ingress")
    made = PagedJournal(ingress, "accepted", 100, subjects.ACCEPTANCES)
    bus_server.kill()
    async with asyncio.timeout(60):
        while ingress.connected:
            await asyncio.sleep(0.01)
        writing = asyncio.create_task(written(made, *(posting(number) for number in range(3))))
        while not made.waiting:  # until they were posted, and then until they were taken up
            await asyncio.sleep(0)
        while made.waiting:
            await asyncio.sleep(0.01)
        bus_server.start()
        await writing
    tracker = await bus_server.connect("tracker")
    assert await lying(tracker) == [[0, 1, 2]]
    await ingress.close()
    await tracker.close()


async def test_what_waits_is_of_bounded_size(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large events are too many too; once they are stored there is room again."""
    monkeypatch.setattr(journal, "QUEUE_BYTES", 10_000)
    ingress = await bus_server.connect("ingress")
    made = PagedJournal(ingress, "accepted", 100, subjects.ACCEPTANCES)
    assert [made.post(posting(number, 4_000)) for number in range(3)] == [True, True, False]
    assert made.dropped == 1
    await written(made)
    await written(made, posting(3, 4_000), posting(4, 4_000))
    await ingress.close()
