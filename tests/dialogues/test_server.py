"""What a conversation in text cannot show: durability, changes under open sessions, balancers, the process's end."""

import asyncio
import contextlib
import hashlib
import shutil
import smtplib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from services.ingress import app
from services.ingress.listeners import Listeners
from services.ingress.settings import IngressSettings
from shared.bus.kv import Bucket
from shared.bus.server import find_binary
from shared.contract import page, subjects
from shared.contract.envelope import Envelope, unpack
from shared.contract.events import MessageAccepted, SubmissionRefused
from shared.contract.siblings import Withdrawal
from shared.runtime.lifecycle import Room
from tests.bus_server import BusServer
from tests.ingress_process import IngressProcess, Tenants, certificate, client_context, password_of, seeded
from tests.patience import tasks_of_a_block

MAIL = "From: a@shop.example\r\nTo: b@y.example\r\nSubject: hello\r\n\r\n"
WAIT_SECONDS = 30.0
PAUSE_SECONDS = 0.2
"""A session may make only so many errors and idle commands."""


@pytest.fixture
def bus(bus_server: BusServer) -> BusServer:
    """Give a test a bus with tenants."""
    asyncio.run(seeded(bus_server))
    return bus_server


@contextlib.contextmanager
def running(bus: BusServer, directory: Path, **settings: str) -> Iterator[IngressProcess]:
    """Run an ingress; at the end it must have left in good order."""
    ingress = IngressProcess(bus, directory, **settings)
    try:
        ingress.start()
        yield ingress
    finally:
        if ingress.process is not None and ingress.process.poll() is None:
            assert ingress.stop() == 0, ingress.log.read_text()
    assert "Traceback" not in ingress.log.read_text(), ingress.log.read_text()


def connect(ingress: IngressProcess, user: str = "alice") -> smtplib.SMTP:
    """Return a client that has logged in."""
    client = smtplib.SMTP("127.0.0.1", ingress.ports["public"], timeout=WAIT_SECONDS)
    client.starttls(context=client_context())
    client.login(user, password_of(user))
    return client


def begin(client: smtplib.SMTP, recipient: str = "b@y.example") -> None:
    """Bring a client to the end of RCPT."""
    assert client.mail("a@shop.example")[0] == 250
    assert client.rcpt(recipient)[0] == 250


def stored(bus: BusServer) -> list[tuple[Envelope, bytes]]:
    """Return all fresh mail."""

    async def read() -> list[tuple[Envelope, bytes]]:
        connection = await bus.connect("delivery")
        try:
            return [
                (carriage.envelope, mail)
                for shard in range(bus.topology.shards)
                async for each in connection.scan(f"MAIL_{shard}", "postlane.mail.>")
                for carriage, mail in [unpack(each.payload)]
            ]
        finally:
            await connection.close()

    return asyncio.run(read())


def accepted(bus: BusServer, count: int) -> list[MessageAccepted]:
    """Return all acceptances, once there are as many as expected."""

    async def read() -> list[MessageAccepted]:
        connection = await bus.connect("tracker")
        try:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                found = [
                    msgspec.json.decode(line, type=MessageAccepted)
                    async for each in connection.scan("ACCEPTED", subjects.ACCEPTANCES)
                    for line in page.lines(each.payload)
                ]
                if len(found) >= count or time.monotonic() > deadline:
                    return found
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    return asyncio.run(read())


def refusals(bus: BusServer) -> list[SubmissionRefused]:
    """Return all refusals on the bus; complete once ingress has stopped."""

    async def read() -> list[SubmissionRefused]:
        connection = await bus.connect("tracker")
        try:
            return [
                msgspec.json.decode(each.payload, type=SubmissionRefused)
                async for each in connection.scan("REFUSALS", "postlane.refused.>")
            ]
        finally:
            await connection.close()

    return asyncio.run(read())


def with_tenants(bus: BusServer, act: Callable[[Tenants], Awaitable[None]]) -> None:
    """Change the directory or a standing."""

    async def change() -> None:
        control, verifier = await asyncio.gather(bus.connect("control"), bus.connect("verifier"))
        try:
            await act(Tenants(control, verifier))
        finally:
            await control.close()
            await verifier.close()

    asyncio.run(change())


async def test_it_is_ready_only_when_it_listens(
    bus_server: BusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for that may connect at once, however long the listeners take."""
    open_, waits = Listeners.open, list[bool]()
    file, key = certificate(tmp_path)
    settings = IngressSettings(
        tls_certificate_file=file, tls_key_file=key, public_listen=("127.0.0.1:0",), public_tls_listen=()
    )

    async def slow(listeners: Listeners) -> None:
        await asyncio.sleep(1)
        waits.append(bool(room.conditions.failing))
        await open_(listeners)
        room.stopping.set()

    monkeypatch.setattr(Listeners, "open", slow)
    monkeypatch.setattr(app, "_spare_the_collector", lambda: None)
    async with tasks_of_a_block() as tasks:
        room = Room("ingress", tasks)
        room.conditions.set("start", True)
        await app.serve(room, settings, bus_server.settings("ingress"), bus_server.topology)
    assert waits == [True]


def test_what_is_stored(bus: BusServer, tmp_path: Path) -> None:
    """Envelope and octets on the bus are exactly what was submitted, and the acceptance says the same."""
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        client.mail("a@shop.example", ["BODY=8BITMIME", "RET=HDRS", "ENVID=Xy+2B1"])
        client.rcpt('"b b"@y.example', ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;Q@y.example"])
        client.rcpt("c@y.example")
        body = MAIL.encode() + "..stuffed ü\r\n.\r\nend\r\n".encode()
        code, text = client.data(body)
        assert code == 250
        queue_id = text.decode().rpartition(" ")[2]
        [(envelope, mail)] = stored(bus)
        assert envelope.queue_id == queue_id
        assert (envelope.instance, envelope.configuration, envelope.domain) == ("a", "shop", "shop.example")
        assert (envelope.lane, envelope.sender, envelope.ret, envelope.envid) == (
            "transactional", "a@shop.example", "HDRS", "Xy+2B1",
        )  # fmt: skip
        assert [(r.number, r.address, r.notify, r.orcpt) for r in envelope.recipients] == [
            (1, '"b b"@y.example', "SUCCESS,DELAY", "rfc822;Q@y.example"),
            (2, "c@y.example", "", ""),
        ]
        assert envelope.eight_bit
        assert not envelope.smtputf8
        assert (envelope.size, envelope.sha256) == (len(mail), hashlib.sha256(mail).hexdigest())
        assert envelope.message_id == f"<{queue_id}@shop.example>"
        assert envelope.subject == "hello"
        assert envelope.user == "u-alice"
        assert mail.startswith(b"Received: from ")
        assert mail.endswith(body)
        [event] = accepted(bus, 1)
        assert (event.queue_id, event.size, event.sha256) == (queue_id, envelope.size, envelope.sha256)
        assert event.recipients == ('"b b"@y.example', "c@y.example")
        assert (event.username, event.client_address, event.endpoint) == ("alice", "127.0.0.1", "public")
        assert event.tls.startswith("TLSv1.3 ")


def test_changes_reach_open_sessions(bus: BusServer, tmp_path: Path) -> None:
    """A suspension, a removed rule and a withdrawn password stop the very next MAIL of an open session."""
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        assert client.mail("a@shop.example")[0] == 250
        client.rset()

        async def suspend(tenants: Tenants) -> None:
            await tenants.suspend("shop", "abuse")

        with_tenants(bus, suspend)
        refused = _until_refused(client, "a@shop.example")
        assert refused[0] == 550
        assert b"suspended by the operator: abuse" in refused[1]

        async def resume(tenants: Tenants) -> None:
            await tenants.directory.delete("suspension.shop")
            await tenants.directory.delete("rule.rule-a")

        with_tenants(bus, resume)
        assert b"5.7.1 Your address is no longer allowed" in _until_refused(client, "a@shop.example", b"address")[1]

        async def rename(tenants: Tenants) -> None:
            await tenants.rule("a", "127.0.0.0/8")
            await tenants.directory.delete("user.shop.u-alice")
            await tenants.directory.delete("user.second.u-alice")

        with_tenants(bus, rename)
        assert b"no longer valid" in _until_refused(client, "a@shop.example", b"credentials")[1]
        with pytest.raises(smtplib.SMTPAuthenticationError):
            connect(ingress)
    assert stored(bus) == []


def _until_refused(client: smtplib.SMTP, sender: str, word: bytes = b"") -> tuple[int, bytes]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        code, text = client.mail(sender)
        if code != 250 and word in text:
            return code, text
        client.rset()
        assert time.monotonic() < deadline, text
        time.sleep(PAUSE_SECONDS)


def test_bus_away_for_a_while(bus: BusServer, tmp_path: Path) -> None:
    """A message that ends while the bus is down is stored once, and answered 250, when the bus is back."""
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        begin(client)
        bus.kill()
        again = threading.Timer(1.0, bus.start)
        again.start()
        code, text = client.data(MAIL + "text\r\n")
        again.join()
        assert code == 250, text
        assert len(stored(bus)) == 1
        assert len(accepted(bus, 1)) == 1


def test_no_mail_before_the_directory_is_read_again(bus: BusServer, tmp_path: Path) -> None:
    """Who was removed while the bus was away must not send on what was known before: 421 until that is read."""
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        bus.stop()
        for buried in list(bus.directory.rglob("KV_standing")):
            shutil.rmtree(buried)
        bus.start()
        _until(lambda: "connected to the bus again" in ingress.log.read_text())
        code, text = client.mail("a@shop.example")
        assert (code, text[:40]) == (421, b"4.3.2 mail.test cannot store mail safely")


def test_bus_does_not_answer(bus: BusServer, tmp_path: Path) -> None:
    """Without a PubAck in time the answer is 451 4.3.0, never 250, and the session goes on with nobody's recipients."""
    settings = {"store_seconds": "1", "store_attempt_seconds": "0.3"}
    with running(bus, tmp_path, **settings) as ingress, connect(ingress) as client:
        begin(client, "first@y.example")
        bus.pause()
        try:
            code, text = client.data(MAIL + "text\r\n")
        finally:
            bus.resume()
        assert code == 451
        assert text.startswith(b"4.3.0 The message could not be stored safely")
        assert client.rcpt("second@y.example")[0] == 503
        # It may lie in the store all the same: delivery is told to leave it alone.
        _until(lambda: len(_withdrawn(bus)) == 1)
        assert {envelope.queue_id for envelope, _ in stored(bus)} <= _withdrawn(bus)


def _withdrawn(bus: BusServer) -> set[str]:
    """Return the queue IDs that were withdrawn, as delivery reads them."""

    async def read() -> set[str]:
        delivery = await bus.connect("delivery")
        bucket: Bucket[Withdrawal] = Bucket(delivery, "withdrawn", Withdrawal)
        try:
            return {entry.key for entry in await bucket.entries()}
        finally:
            await delivery.close()

    return asyncio.run(read())


def test_full_store(bus: BusServer, tmp_path: Path) -> None:
    """A mail stream beyond its percentage is told 452 4.3.1."""
    settings = {"storage_percent": "1", "storage_check_seconds": "0.05"}
    with running(bus, tmp_path, **settings) as ingress, connect(ingress) as client:
        deadline = time.monotonic() + WAIT_SECONDS
        code, text = 250, b""
        while code == 250 and time.monotonic() < deadline:
            begin(client)
            code, text = client.data(MAIL + ("x" * 900 + "\r\n") * 1000)
        assert (code, text[:5]) == (452, b"4.3.1")


def test_unproven_server(bus: BusServer, tmp_path: Path) -> None:
    """A server that does not sync each message is not sent mail to: 421 4.3.2 and not ready; relaxed, it is."""
    bus.stop()
    config = bus.directory / "nats.conf"
    config.write_text(config.read_text().replace("sync_interval: always", "sync_interval: 2m"))
    server = subprocess.Popen([find_binary(), "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _check_unproven(bus, tmp_path)
    finally:
        server.kill()
        server.wait()


def _check_unproven(bus: BusServer, tmp_path: Path) -> None:
    ingress = IngressProcess(bus, tmp_path)
    with pytest.raises(AssertionError, match="did not become ready"):
        ingress.start(seconds=4.0)
    _until(lambda: ingress.health("/readyz") == 503)  # it has begun, however long that took
    with socket.create_connection(("127.0.0.1", ingress.ports["public"]), WAIT_SECONDS) as client:
        assert client.makefile("rb").readline().startswith(b"421 4.3.2 mail.test cannot store mail safely")
    assert ingress.stop() == 0
    with running(bus, tmp_path, relaxed_durability="true") as relaxed, connect(relaxed) as sender:
        begin(sender)
        assert sender.data(MAIL)[0] == 250


def test_drain(bus: BusServer, tmp_path: Path) -> None:
    """Told to stop, it says 421 4.3.2 to the idle, finishes transactions, and ends with status 0."""
    ingress = IngressProcess(bus, tmp_path, drain_seconds="30")
    ingress.start()
    idle, busy = connect(ingress), connect(ingress)
    asked = smtplib.SMTP("127.0.0.1", ingress.ports["public"], timeout=WAIT_SECONDS)
    asked.starttls(context=client_context())
    asked.ehlo()
    assert asked.docmd("AUTH", "LOGIN")[0] == 334
    begin(busy)
    busy.putcmd("data")
    assert busy.getreply()[0] == 354
    assert ingress.process is not None
    ingress.process.terminate()
    assert idle.getreply()[0] == 421
    assert idle.file is not None
    assert asked.getreply()[1].startswith(b"4.3.2 mail.test is shutting down"), "who is asked for a name is idle too"
    busy.send(MAIL + "text\r\n.\r\n")
    assert busy.getreply()[0] == 250
    assert busy.getreply()[0] == 421
    assert ingress.process.wait(WAIT_SECONDS) == 0, ingress.log.read_text()
    assert len(stored(bus)) == 1
    assert len(accepted(bus, 1)) == 1


def test_drain_says_farewell_to_who_does_not_go_on(bus: BusServer, tmp_path: Path) -> None:
    """In a transaction one is waited for; when that time is over, one who is not sending a message is told 421."""
    ingress = IngressProcess(bus, tmp_path, drain_seconds="1")
    ingress.start()
    waited_for, sending = connect(ingress), connect(ingress)
    for client in (waited_for, sending):
        begin(client)
    sending.putcmd("data")
    assert sending.getreply()[0] == 354
    assert ingress.process is not None
    ingress.process.terminate()
    code, text = waited_for.getreply()
    assert (code, text[:35]) == (421, b"4.3.2 mail.test is shutting down, t")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        sending.getreply()
    assert ingress.process.wait(WAIT_SECONDS) == 0, ingress.log.read_text()


def test_drain_waits_for_the_bus(bus: BusServer, tmp_path: Path) -> None:
    """U01: what waits for its PubAck when the process is told to stop is stored, answered 250 and announced."""
    ingress = IngressProcess(bus, tmp_path, drain_seconds="30")
    ingress.start()
    clients = [connect(ingress) for _ in range(10)]
    for client in clients:
        begin(client)
        client.putcmd("data")
        assert client.getreply()[0] == 354
    bus.pause()
    try:
        for client in clients:
            client.send(MAIL + "text\r\n.\r\n")
        octets = len(clients) * len(MAIL + "text\r\n")
        _until(lambda: ingress.figure("postlane_ingress_in_flight_bytes") >= octets)
        assert ingress.process is not None
        ingress.process.terminate()
        _until(lambda: ingress.health("/readyz") == 503)
    finally:
        bus.resume()
    replies = [client.getreply() for client in clients]
    assert {code for code, _ in replies} == {250}
    farewells = [client.getreply() for client in clients]
    assert {code for code, _ in farewells} == {421}
    assert ingress.process.wait(WAIT_SECONDS) == 0, ingress.log.read_text()
    named = {text.decode().rpartition(" ")[2] for _, text in replies}
    assert {envelope.queue_id for envelope, _ in stored(bus)} == named
    assert {event.queue_id for event in accepted(bus, len(clients))} == named
    references = {text.decode().rpartition("(ref ")[2].rstrip(")") for _, text in farewells}
    assert {event.reference for event in refusals(bus) if event.code == 421} == references


def test_balancer(bus: BusServer, tmp_path: Path) -> None:
    """Behind a trusted balancer the rules see the client's address, in both versions and with TLS at once."""
    with running(bus, tmp_path, proxy_networks="127.0.0.2/32") as ingress:
        version1 = b"PROXY TCP4 127.0.0.1 127.0.0.2 1000 587\r\n"
        stranger = b"PROXY TCP4 192.0.2.7 127.0.0.2 1000 587\r\n"
        version2 = (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + socket.inet_aton("127.0.0.1") + b"\x7f\0\0\x02\x03\xe8\x02\x4b"
        )
        assert _login_through(ingress, "public", version1) == 235
        assert _login_through(ingress, "public", version2) == 235
        assert _login_through(ingress, "public", stranger) == 535
        assert _login_through(ingress, "tls", version2) == 235
        # A balancer must send a header, and everybody else must not.
        with socket.create_connection(
            ("127.0.0.1", ingress.ports["public"]), WAIT_SECONDS, source_address=("127.0.0.2", 0)
        ) as silent:
            silent.sendall(b"EHLO x\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert silent.recv(100) == b""
        with connect(ingress) as direct:
            assert direct.noop()[0] == 250


def _login_through(ingress: IngressProcess, where: str, header: bytes) -> int:
    sock = socket.create_connection(("127.0.0.1", ingress.ports[where]), WAIT_SECONDS, source_address=("127.0.0.2", 0))
    client = smtplib.SMTP()
    if where == "tls":
        hello = _ClientHello(header)
        sock = hello.wrap(sock)
    else:
        sock.sendall(header)
    client.sock = sock
    client.file = None
    client._host = "mail.test"  # type: ignore[attr-defined]
    assert client.getreply()[0] == 220
    if where != "tls":
        client.starttls(context=client_context())
    try:
        client.login("alice", password_of("alice"))
    except smtplib.SMTPAuthenticationError as fault:
        return fault.smtp_code
    finally:
        client.close()
    return 235


class _ClientHello:
    """Sends a PROXY header and the first octets of TLS in one segment."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Return the socket after the handshake, which a relay in between has prefixed with the header."""
        near, far = socket.socketpair()
        threading.Thread(target=self._pump, args=(far, sock, self._header), daemon=True).start()
        threading.Thread(target=self._pump, args=(sock, far, b""), daemon=True).start()
        near.settimeout(WAIT_SECONDS)
        return client_context().wrap_socket(near)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, prefix: bytes) -> None:
        with contextlib.suppress(OSError):
            while octets := source.recv(65_536):
                sink.sendall(prefix + octets)
                prefix = b""
            sink.shutdown(socket.SHUT_WR)


def test_certificate_is_taken_up(bus: BusServer, tmp_path: Path) -> None:
    """A new certificate serves new sessions, and a broken one changes nothing; open sessions go on."""
    with running(bus, tmp_path, tls_reload_seconds="0.05") as ingress, connect(ingress) as client:
        before = _certificate_of(ingress)
        ingress.key.write_text("broken")
        deadline = time.monotonic() + WAIT_SECONDS
        while "the old one stays" not in ingress.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert _certificate_of(ingress) == before
        certificate(tmp_path)
        while _certificate_of(ingress) == before:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        begin(client)
        assert client.data(MAIL)[0] == 250


def _certificate_of(ingress: IngressProcess) -> bytes:
    sock = socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS)
    with client_context().wrap_socket(sock) as secured:
        return secured.getpeercert(binary_form=True) or b""


def test_client_leaves_after_the_dot(bus: BusServer, tmp_path: Path) -> None:
    """A client that leaves before the answer: its message is stored whole, and never before the dot was there."""
    with running(bus, tmp_path) as ingress:
        gone_before, gone_after = connect(ingress), connect(ingress)
        for client in (gone_before, gone_after):
            begin(client)
            client.putcmd("data")
            assert client.getreply()[0] == 354
        gone_before.send(MAIL + "text\r\n.\r")
        gone_after.send(MAIL + "text\r\n.\r\n")
        for client in (gone_before, gone_after):
            client.close()
        [event] = accepted(bus, 1)
        assert [envelope.queue_id for envelope, _ in stored(bus)] == [event.queue_id]


def test_budget_of_octets(bus: BusServer, tmp_path: Path) -> None:
    """What does not fit into the budget is told 452, and what a vanished client held is free again."""
    with running(bus, tmp_path, in_flight_bytes="50000", message_bytes="40000") as ingress:
        holder, other = connect(ingress), connect(ingress)
        begin(holder)
        holder.putcmd("data")
        assert holder.getreply()[0] == 354
        holder.send(MAIL + ("x" * 900 + "\r\n") * 30)
        _until(lambda: ingress.figure("postlane_ingress_in_flight_bytes") > 25_000)
        assert other.mail("a@shop.example", ["SIZE=39000"])[0] == 250
        assert other.rcpt("b@y.example")[0] == 250
        assert other.docmd("data")[0] == 452
        begin(other)
        code, text = other.data(MAIL + ("x" * 900 + "\r\n") * 30)
        assert (code, text[:5]) == (452, b"4.3.1")
        holder.close()
        deadline = time.monotonic() + WAIT_SECONDS
        while code != 250:
            assert time.monotonic() < deadline
            begin(other)
            code, text = other.data(MAIL + ("x" * 900 + "\r\n") * 30)
        other.quit()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_connection_limits(bus: BusServer, tmp_path: Path) -> None:
    """Too many strangers from one address are told 421 at once; who has logged in does not count as one."""
    with running(bus, tmp_path, strangers_per_address="2") as ingress, connect(ingress), connect(ingress):
        strangers = [_greeting(ingress) for _ in range(3)]
        assert [code for code, _ in strangers] == [220, 220, 421]
        for _, sock in strangers:
            sock.close()


def _greeting(ingress: IngressProcess) -> tuple[int, socket.socket]:
    sock = socket.create_connection(("127.0.0.1", ingress.ports["public"]), WAIT_SECONDS)
    return int(sock.recv(1000)[:3]), sock


def test_rate(bus: BusServer, tmp_path: Path, within_the_hour: None) -> None:
    """The approved messages an hour go through, the next is told 450 with the time to wait."""

    async def limit(tenants: Tenants) -> None:
        entry = await tenants.directory.get("authorization.shop")
        assert entry is not None
        await tenants.directory.put("authorization.shop", msgspec.structs.replace(entry.record, messages_per_hour=2))

    with_tenants(bus, limit)
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        for _ in range(2):
            begin(client)
            assert client.data(MAIL)[0] == 250
        code, text = client.mail("a@shop.example")
        assert (code, text[:5]) == (450, b"4.7.1")
        assert client.mail("a@second.example")[0] == 250


def test_cap_of_held_mail(bus: BusServer, tmp_path: Path) -> None:
    """While suspended for DNS, mail beyond the configuration's cap is told 452."""

    async def cap(tenants: Tenants) -> None:
        entry = await tenants.directory.get("configuration.held")
        assert entry is not None
        await tenants.directory.put("configuration.held", msgspec.structs.replace(entry.record, hold_cap=2))

    with_tenants(bus, cap)
    with running(bus, tmp_path) as ingress, connect(ingress, "hal") as client:
        for _ in range(2):
            assert client.mail("a@held.example")[0] == 250
            assert client.rcpt("b@y.example")[0] == 250
            assert client.data(MAIL.replace("shop", "held"))[0] == 250
        code, text = client.mail("a@held.example")
        assert (code, text[:5]) == (452, b"4.3.1")
        assert b"held.example until its DNS is repaired" in text
