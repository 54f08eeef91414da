"""Quotas over several ingress processes: what one has accepted is spent at the other, also after a restart."""

import asyncio
import smtplib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from shared.bus.kv import Bucket
from shared.contract.siblings import Spending
from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, PAUSE_SECONDS, WAIT_SECONDS, begin, connect, running, with_tenants
from tests.dialogues.test_server import bus as bus
from tests.ingress_process import IngressProcess, Tenants


@pytest.fixture(autouse=True)
def _within_the_hour(within_the_hour: None) -> None:
    """Quotas are by the clock."""


def approve(bus: BusServer, **quota: int) -> None:
    """Give `shop.example` a quota."""

    async def put(tenants: Tenants) -> None:
        entry = await tenants.directory.get("authorization.shop")
        assert entry is not None
        await tenants.directory.put("authorization.shop", msgspec.structs.replace(entry.record, **quota))

    with_tenants(bus, put)


def limit(bus: BusServer, username: str, **limits: object) -> None:
    """Give a user of `shop.example` a limit."""

    async def put(tenants: Tenants) -> None:
        key = f"user.shop.u-{username}"
        entry = await tenants.directory.get(key)
        assert entry is not None
        await tenants.directory.put(key, msgspec.structs.replace(entry.record, **limits))

    with_tenants(bus, put)


def send(client: smtplib.SMTP) -> None:
    """Send one message that is accepted."""
    begin(client)
    assert client.data(MAIL)[0] == 250


def until_refused(client: smtplib.SMTP, word: bytes = b"") -> tuple[int, bytes]:
    """Ask until MAIL is refused in this word: what the other process counted arrives within its interval."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (answer := client.mail("a@shop.example"))[0] == 250 or word not in answer[1]:
        assert time.monotonic() < deadline, answer
        client.rset()
        time.sleep(PAUSE_SECONDS)
    return answer


def test_two_processes_share_a_quota(bus: BusServer, tmp_path: Path) -> None:
    """Two messages here and one there are three of the hour; the reply says when to come again."""
    approve(bus, messages_per_hour=3)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        running(bus, tmp_path / "one") as one,
        running(bus, tmp_path / "two") as two,
        connect(one) as here,
        connect(two) as there,
    ):
        send(here)
        send(here)
        send(there)
        code, text = until_refused(here)
        assert code == 450
        assert text.startswith(b"4.7.1 The quota of 3 messages an hour is used up, try again in ")
        assert until_refused(there)[0] == 450
        assert here.mail("a@second.example")[0] == 250, "another configuration has its own quota"


def test_a_flood_over_two_processes_stays_near_the_quota(bus: BusServer, tmp_path: Path) -> None:
    """Eight sessions at two processes send as fast as they can: what is left is told ever sooner."""
    approve(bus, messages_per_hour=400)  # so many that what is on its way for a while, on a busy machine, is few
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with running(bus, tmp_path / "one") as one, running(bus, tmp_path / "two") as two:

        def flood(ingress: IngressProcess) -> int:
            sent = 0
            with connect(ingress) as client:
                while client.mail("a@shop.example")[0] == 250:
                    client.rcpt("b@y.example")
                    if client.data(MAIL)[0] != 250:
                        break
                    sent += 1
            return sent

        with ThreadPoolExecutor(8) as pool:
            total = sum(pool.map(flood, [one, two] * 4))
    assert 400 <= total < 700, "without telling it would be 800"


def test_a_restart_forgets_nothing(bus: BusServer, tmp_path: Path) -> None:
    """A day's quota is used up for the process that comes after, too; without it the same mail goes through."""
    approve(bus, messages_per_day=1)
    with running(bus, tmp_path) as before, connect(before) as client:
        send(client)
    with running(bus, tmp_path) as after, connect(after) as client:
        code, text = client.mail("a@shop.example")
        assert (code, text[:5]) == (450, b"4.7.1")
        approve(bus, messages_per_day=0)
        _until(lambda: client.mail("a@shop.example")[0] == 250)


def test_a_users_own_rate(bus: BusServer, tmp_path: Path) -> None:
    """One user has sent its messages of the hour, its colleague has not."""
    limit(bus, "alice", messages_per_hour=1)
    with running(bus, tmp_path) as ingress, connect(ingress) as alice, connect(ingress, "gina") as gina:
        send(alice)
        code, text = alice.mail("a@shop.example")
        assert (code, text[:5]) == (450, b"4.7.1")
        assert gina.mail("jira@shop.example")[0] == 250


def test_limits_of_one_message(bus: BusServer, tmp_path: Path) -> None:
    """A configuration's own number of recipients and size are held, announced or not."""
    approve(bus, recipients_per_message=2, message_bytes=2_000)
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        assert client.mail("a@shop.example", ["SIZE=2001"])[0] == 552
        assert client.mail("a@shop.example", ["SIZE=2000"])[0] == 250
        assert [client.rcpt(f"r{number}@y.example")[0] for number in range(3)] == [250, 250, 452]
        code, text = client.data(MAIL + "x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 30)
        assert (code, b"limit of 2000 octets" in text) == (552, True)


def test_new_limits_reach_open_sessions(bus: BusServer, tmp_path: Path) -> None:
    """Limits set while a session is open hold from the next MAIL on, at every process."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        running(bus, tmp_path / "one") as one,
        running(bus, tmp_path / "two") as two,
        connect(one) as here,
        connect(two) as there,
    ):
        send(here)
        send(there)
        limit(bus, "alice", senders=("jira@shop.example",))
        for client in (here, there):
            until_refused(client, b"may use")
        limit(bus, "alice", senders=("*",), networks=("192.0.2.0/24",))
        for client in (here, there):
            client.rset()
            until_refused(client, b"no longer allowed")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(PAUSE_SECONDS)


def test_a_killed_process_is_remembered(bus: BusServer, tmp_path: Path) -> None:
    """What a process had told counts after kill -9; with a small quota every message is told at once."""
    approve(bus, messages_per_hour=2)
    ingress = IngressProcess(bus, tmp_path)
    ingress.start()
    try:
        with connect(ingress) as client:
            send(client)
            send(client)
        until_told(bus, 2)
    finally:
        ingress.kill()
    with running(bus, tmp_path) as after, connect(after) as client:
        assert client.mail("a@shop.example")[0] == 450


def test_a_bus_that_was_away_keeps_the_counts(bus: BusServer, tmp_path: Path) -> None:
    """After the bus has been away and is back, the quota is neither new nor closed."""
    approve(bus, messages_per_hour=2)
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        send(client)
        until_told(bus, 1)
        bus.kill()
        bus.start()
        _until(lambda: ingress.health("/readyz") == 200)
        send(client)
        assert client.mail("a@shop.example")[0] == 450


def test_the_cap_of_held_mail_is_shared(bus: BusServer, tmp_path: Path) -> None:
    """Mail held by one process counts at the other."""

    async def cap(tenants: Tenants) -> None:
        entry = await tenants.directory.get("configuration.held")
        assert entry is not None
        await tenants.directory.put("configuration.held", msgspec.structs.replace(entry.record, hold_cap=2))

    with_tenants(bus, cap)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        running(bus, tmp_path / "one") as one,
        running(bus, tmp_path / "two") as two,
        connect(one, "hal") as here,
        connect(two, "hal") as there,
    ):
        for client in (here, there):
            assert client.mail("a@held.example")[0] == 250
            assert client.rcpt("b@y.example")[0] == 250
            assert client.data(MAIL.replace("shop", "held"))[0] == 250
        for client in (here, there):
            _until(lambda client=client: full(client))  # type: ignore[misc]


def full(client: smtplib.SMTP) -> bool:
    """Whether MAIL is told that too much is held."""
    code, text = client.mail("a@held.example")
    client.rset()
    return code == 452 and b"until its DNS is repaired" in text


def until_told(bus: BusServer, messages: int) -> None:
    """Wait until the processes have told so many messages of `shop.example` in this hour."""

    async def told() -> int:
        connection = await bus.connect("control")
        try:
            entries = await Bucket[Spending](connection, "spending", Spending).entries()
        finally:
            await connection.close()
        return sum(entry.record.this_hour.get("shop", 0) for entry in entries)

    _until(lambda: asyncio.run(told()) == messages)
