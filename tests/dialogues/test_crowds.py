"""Mail of a configuration that sends more at a time than others should wait behind goes to slots of its own."""

import asyncio
from pathlib import Path

from shared.contract.subjects import calm_slots, parse_place
from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, begin, connect, running
from tests.dialogues.test_server import bus as bus

NAMED = MAIL.replace("Subject:", "Idempotency-Key: order-17\r\nSubject:", 1)


def crowded(bus: BusServer) -> list[bool]:
    """Return, in their order, whether each stored message lies in a slot for crowds."""

    async def look() -> list[bool]:
        connection = await bus.connect("delivery")
        found: list[tuple[str, bool]] = []
        for shard in range(bus.topology.shards):
            async for message in connection.scan(f"MAIL_{shard}", f"postlane.mail.{shard}.transactional.>"):
                place = parse_place(message.subject)
                assert place is not None
                found.append((place.queue_id, place.slot >= calm_slots(bus.topology.slots)))
        await connection.close()
        return [each for _, each in sorted(found)]

    return asyncio.run(look())


def test_beyond_the_burst_mail_queues_apart(bus: BusServer, tmp_path: Path) -> None:
    """Two at once are calm, the third and fourth are a crowd."""
    with (
        running(bus, tmp_path, calm_burst="2", calm_messages_per_second="0.001") as ingress,
        connect(ingress) as client,
    ):
        for _ in range(4):
            begin(client)
            assert client.data(MAIL)[0] == 250
    assert crowded(bus) == [False, False, True, True]


def test_a_repetition_lies_where_the_first_one_did(bus: BusServer, tmp_path: Path) -> None:
    """A submission with a name of its own makes no second copy in the other kind of slot."""
    with (
        running(bus, tmp_path, calm_burst="1", calm_messages_per_second="0.001") as ingress,
        connect(ingress) as client,
    ):
        replies = set()
        for _ in range(3):
            begin(client)
            replies.add(client.data(NAMED))
    assert len(replies) == 1
    assert crowded(bus) == [False]
