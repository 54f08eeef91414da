"""The audit log is read from its end, in pages, on a real bus."""

from collections.abc import AsyncGenerator

import msgspec
import pytest

from services.control.audit_log import WINDOW_RECORDS, AuditLog, Page
from services.control.directory import AUDIT
from shared.bus.client import Bus
from shared.bus.stored import Stored
from shared.contract import subjects
from tests.bus_server import BusServer

QUIET, BUSY = "quiet", "busy"
RECORDS = 3 * WINDOW_RECORDS


class Counted:
    """A bus that counts the records scans hand out."""

    def __init__(self, bus: Bus) -> None:
        self.stream_state = bus.stream_state
        self._bus = bus
        self.read = 0

    async def scan(self, stream: str, subject_filter: str, start: int) -> AsyncGenerator[Stored, None]:
        """Scan as the bus does."""
        async for stored in self._bus.scan(stream, subject_filter, start):
            self.read += 1
            yield stored


async def fill(bus: Bus) -> None:
    """Store two records of a quiet instance and very many of a busy one behind them."""
    for instances in ([QUIET] * 2, *[[BUSY] * 500] * (RECORDS // 500)):
        pending = [
            await bus.send(
                subjects.audit(instance),
                msgspec.json.encode({"instance": instance, "number": number}),
                stream=AUDIT,
                message_id="",
            )
            for number, instance in enumerate(instances)
        ]
        for each in pending:
            await each.stored(30)


def everybody(payload: bytes) -> bool:
    """Want all."""
    return True


async def read(log: AuditLog, instance: str, limit: int) -> list[Page]:
    """Return all pages."""
    pages = [await log.page(instance, everybody, limit, None)]
    while (older := pages[-1].older) is not None:
        pages.append(await log.page(instance, everybody, limit, older))
    return pages


async def test_pages_begin_at_the_end_and_read_little(bus_server: BusServer) -> None:
    """The newest come first and each once; a page costs what it shows, not what the log has grown to."""
    bus = await bus_server.connect("control")
    counted = Counted(bus)
    log = AuditLog(counted, 20_000)  # type: ignore[arg-type]
    assert await log.page("", everybody, 10, None) == Page((), None)
    await fill(bus)

    newest = await log.page(BUSY, everybody, 100, None)
    assert [msgspec.json.decode(each)["number"] for each in newest.records] == list(range(499, 399, -1))
    assert counted.read <= WINDOW_RECORDS

    counted.read = 0
    (quiet,) = await read(log, QUIET, 100)  # behind everything else
    assert [msgspec.json.decode(each) for each in quiet.records] == [
        {"instance": QUIET, "number": 1},
        {"instance": QUIET, "number": 0},
    ]
    assert counted.read <= 2

    everything = [each for page in await read(log, "", 1000) for each in page.records]
    assert len(everything) == RECORDS + 2
    assert [msgspec.json.decode(each)["instance"] for each in everything[-3:]] == [BUSY, QUIET, QUIET]
    await bus.close()


@pytest.mark.parametrize("examined", [500, 2500])
async def test_a_search_that_turns_nearly_all_away_ends_early_and_goes_on(bus_server: BusServer, examined: int) -> None:
    """A page may hold nothing and still say where to go on; following that finds what there is."""
    bus = await bus_server.connect("control")
    counted = Counted(bus)
    log = AuditLog(counted, examined)  # type: ignore[arg-type]
    await fill(bus)
    found: list[bytes] = []
    before: int | None = None
    pages = 0
    while True:
        counted.read = 0
        page = await log.page("", lambda payload: QUIET.encode() in payload, 10, before)
        assert counted.read <= examined + 2 * WINDOW_RECORDS
        found += page.records
        pages += 1
        if page.older is None:
            break
        assert before is None or page.older < before
        before = page.older
    assert len(found) == 2
    assert pages > 2
    await bus.close()
