"""Repeated submissions over two ingress processes, with and without a bus that answers."""

import asyncio
import smtplib
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.ingress.core import repeats
from services.ingress.core.headers import parse_fields
from services.ingress.core.repeats import Claim, Submitted
from shared.bus.kv import Bucket
from shared.contract.siblings import Receipt
from shared.runtime import clock
from tests.bus_server import BusServer
from tests.dialogues.test_server import begin, connect, running, stored, with_tenants
from tests.ingress_process import IngressProcess, Tenants, seeded
from tests.system import eventually, queue_id_of

MAIL = "From: a@shop.example\r\nSubject: order\r\n{header}\r\nThank you.\r\n"
NAMED = MAIL.format(header="Idempotency-Key: order-17\r\n")
CLIENTS = 8


@pytest.fixture
def bus(bus_server: BusServer) -> BusServer:
    """Give a test a bus with tenants."""
    asyncio.run(seeded(bus_server))
    return bus_server


@pytest.fixture
def pair(bus: BusServer, tmp_path: Path) -> Iterator[tuple[IngressProcess, IngressProcess]]:
    """Give a test two ingress processes on one bus, which give up storing soon."""
    directories = [tmp_path / name for name in ("one", "two")]
    for directory in directories:
        directory.mkdir()
    with (
        running(bus, directories[0], store_seconds="6", store_attempt_seconds="2") as one,
        running(bus, directories[1], store_seconds="6", store_attempt_seconds="2") as two,
    ):
        yield one, two


def submit(ingress: IngressProcess, mail: str = NAMED) -> tuple[int, str]:
    """Send one message in a session of its own."""
    with connect(ingress) as client:
        begin(client)
        code, text = client.data(mail)
    return code, text.decode()


def with_receipts(bus: BusServer, act: Callable[[Bucket[Receipt]], Awaitable[None]]) -> None:
    """Do something with the bucket as ingress does."""

    async def do() -> None:
        connection = await bus.connect("ingress")
        try:
            await act(Bucket(connection, "receipts", Receipt))
        finally:
            await connection.close()

    asyncio.run(do())


def claim() -> Claim:
    """Return how ingress names what `submit` sends."""
    header, _, body = NAMED.partition("\r\n\r\n")
    fields = parse_fields(f"{header}\r\n".encode(), 10)
    assert isinstance(fields, list)
    made = repeats.claim(Submitted("shop", "u-alice", "a@shop.example", ("b@y.example",), fields, body.encode()))
    assert isinstance(made, Claim)
    return made


def test_many_at_once(bus: BusServer, pair: tuple[IngressProcess, IngressProcess]) -> None:
    """Eight sessions on two processes say the same at the same moment: one message, one queue ID for all."""
    answers: list[tuple[int, str]] = []
    gate = threading.Barrier(CLIENTS)

    def one(ingress: IngressProcess) -> None:
        with connect(ingress) as client:
            begin(client)
            gate.wait(60)
            code, text = client.data(NAMED)
            answers.append((code, text.decode()))

    threads = [threading.Thread(target=one, args=(pair[number % 2],)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    [(envelope, mail)] = stored(bus)
    # Whoever had to wait too long was told 451, never 250 with another ID; asked again, it is told the ID.
    assert len(answers) == CLIENTS
    assert {code for code, _ in answers} <= {250, 451}
    assert {queue_id_of(text) for code, text in answers if code == 250} == {envelope.queue_id}
    assert submit(pair[0]) == (250, f"2.0.0 Ok: queued as {envelope.queue_id}")
    assert b"Idempotency-Key" not in mail


def test_without_the_header_there_are_as_many_as_were_sent(
    bus: BusServer, pair: tuple[IngressProcess, IngressProcess]
) -> None:
    """The control: nobody asked, so each submission is a message."""
    plain = MAIL.format(header="Message-ID: <1@shop.example>\r\n")
    codes = [submit(ingress, plain)[0] for ingress in (*pair, *pair)]
    assert codes == [250] * 4
    assert len(stored(bus)) == 4


def test_a_configuration_may_ask_for_everything(bus: BusServer, pair: tuple[IngressProcess, IngressProcess]) -> None:
    """With `content`, Message-ID, envelope and body are the name; with `off`, even the header is none."""

    async def by_content(tenants: Tenants) -> None:
        await tenants.configuration("a", "shop", "shop.example", repeats="content")

    async def off(tenants: Tenants) -> None:
        await tenants.configuration("a", "shop", "shop.example", repeats="off")

    plain = MAIL.format(header="Message-ID: <1@shop.example>\r\n")

    def alike() -> bool:
        return submit(pair[0], plain) == submit(pair[1], plain)

    with_tenants(bus, by_content)
    eventually("the policy has arrived", alike)
    count = len(stored(bus))
    assert alike()
    assert len(stored(bus)) == count
    assert submit(pair[0], plain.replace("Thank", "Bless"))[0] == 250
    assert len(stored(bus)) == count + 1
    with_tenants(bus, off)
    eventually("the policy has gone", lambda: submit(pair[0]) != submit(pair[1]))


def test_an_unknown_outcome_becomes_known(bus: BusServer, pair: tuple[IngressProcess, IngressProcess]) -> None:
    """The process that stored it died before it said so: the next one finds it and makes no second copy."""
    code, text = submit(pair[0])
    assert code == 250
    queue_id = queue_id_of(text)

    async def forget(bucket: Bucket[Receipt]) -> None:
        entry = await bucket.get(claim().key)
        assert entry is not None
        assert entry.record.stored
        assert entry.record.queue_id == queue_id
        busy = clock.now() + timedelta(seconds=15)
        unknown = Receipt(queue_id=queue_id, at=entry.record.at, fingerprint=entry.record.fingerprint, busy_until=busy)
        await bucket.update(claim().key, unknown, entry.revision)

    async def known(bucket: Bucket[Receipt]) -> None:
        entry = await bucket.get(claim().key)
        assert entry is not None
        assert entry.record.stored

    with_receipts(bus, forget)
    assert submit(pair[1])[0] == 451  # somebody may still be storing it
    eventually("the first one's time is over", lambda: submit(pair[1]) == (250, text))
    assert [envelope.queue_id for envelope, _ in stored(bus)] == [queue_id]
    with_receipts(bus, known)


def test_a_receipt_without_a_message_leads_to_the_message(
    bus: BusServer, pair: tuple[IngressProcess, IngressProcess]
) -> None:
    """The process died before it stored anything: the repetition stores it, under the queue ID of the receipt."""
    queue_id = "01K" + "0" * 27

    async def promise(bucket: Bucket[Receipt]) -> None:
        at = clock.now() - timedelta(minutes=1)
        await bucket.create(claim().key, Receipt(queue_id=queue_id, at=at, fingerprint=claim().fingerprint))

    with_receipts(bus, promise)
    assert submit(pair[0]) == (250, f"2.0.0 Ok: queued as {queue_id}")
    assert submit(pair[1]) == (250, f"2.0.0 Ok: queued as {queue_id}")
    assert [envelope.queue_id for envelope, _ in stored(bus)] == [queue_id]


def test_a_bus_that_does_not_answer(bus: BusServer, pair: tuple[IngressProcess, IngressProcess]) -> None:
    """Without receipts the client is told 451; afterwards its repetitions make exactly one message."""
    with connect(pair[0]) as first, connect(pair[1]) as second:
        begin(first)
        begin(second)
        bus.pause()
        try:
            codes = [_data(first), _data(second)]
        finally:
            bus.resume()
    assert codes == [451, 451]
    eventually("the bus is back", lambda: all(ingress.health("/readyz") == 200 for ingress in pair))
    eventually("nobody stores it any more", lambda: submit(pair[0])[0] == 250)
    one, two = submit(pair[0]), submit(pair[1])
    assert one == two
    assert one[0] == 250
    assert len(stored(bus)) == 1


def _data(client: smtplib.SMTP) -> int:
    return client.data(NAMED)[0]
