"""Clients nobody wants: endless, slow, garbled, guessing. The server stays small, in step and polite to others."""

import asyncio
import base64
import contextlib
import random
import re
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.bus.kv import Bucket
from shared.contract.siblings import LoginFailures
from tests.bus_server import BusServer, started
from tests.conftest import SMALL
from tests.dialogues.test_credentials import until
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, begin, bus, connect, running, stored
from tests.ingress_process import IngressProcess, client_context, seeded

__all__ = ["bus"]

MEGABYTE = 1 << 20
REPLY = re.compile(rb"[2345][0-9]{2}[ -][\x20-\x7e]*\r\n")


@pytest.fixture
def ingress(bus: BusServer, tmp_path: Path) -> Iterator[IngressProcess]:
    """Give a test an ingress to which a crowd may come."""
    with running(bus, tmp_path, strangers_per_address="1000") as process:
        yield process


@pytest.fixture
def impatient(bus: BusServer, tmp_path: Path) -> Iterator[IngressProcess]:
    """Give a test an ingress with short patience, which is long enough for a client that does something."""
    patience = {
        "command_seconds": "4", "login_seconds": "6", "data_seconds": "4", "data_total_seconds": "6",
        "handshake_seconds": "4",
    }  # fmt: skip
    with running(bus, tmp_path, **patience) as process:
        yield process


def resident(ingress: IngressProcess) -> int:
    """Return the octets of memory the process holds."""
    return int(ingress.figure("process_resident_memory_bytes"))


def test_endless_lines(bus: BusServer, tmp_path: Path) -> None:
    """A hundred clients sending lines without an end, as commands and in DATA, cost next to no memory."""
    with running(bus, tmp_path) as ingress:
        _flood(ingress)


def _flood(ingress: IngressProcess) -> None:
    before = resident(ingress)
    strangers = [socket.create_connection(("127.0.0.1", ingress.ports["public"]), WAIT_SECONDS) for _ in range(50)]
    clients = [connect(ingress) for _ in range(50)]
    for client in clients:
        begin(client)
        client.putcmd("data")
        assert client.getreply()[0] == 354
    noise = b"x" * 65_536

    def flood(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(16):
                sock.sendall(noise)

    sockets = [*strangers, *(client.sock for client in clients if client.sock is not None)]
    threads = [threading.Thread(target=flood, args=(sock,)) for sock in sockets]
    for thread in threads:
        thread.start()
    peak = before
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, resident(ingress))
    for sock in strangers:
        sock.close()
    for client in clients:
        client.close()
    assert peak - before < 64 * MEGABYTE


def test_slow_clients(impatient: IngressProcess) -> None:
    """Silence ends with 421 4.4.2 in every phase: before and after login, in AUTH, in DATA; a trickle does not help."""
    with socket.create_connection(("127.0.0.1", impatient.ports["public"]), WAIT_SECONDS) as silent:
        lines = silent.makefile("rb").readlines()
        assert lines[-1].startswith(b"421 4.4.2 Timed out waiting for the client")
    idle = connect(impatient)
    assert idle.getreply()[0] == 421
    asked = connect(impatient)
    begin(asked)
    asked.putcmd("data")
    assert asked.getreply()[0] == 354
    trickle = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not trickle.wait(0.2):
                asked.send("x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        assert asked.getreply()[0] == 421
    finally:
        trickle.set()
        dripping.join()


def test_many_large_messages_at_once(bus: BusServer, tmp_path: Path) -> None:
    """Fifty messages of 30 MB: those that fit into the budget are taken, the others told 452, memory is bounded."""
    octets, budget = 30_000_000, 128 * MEGABYTE
    limits = {"in_flight_bytes": str(budget), "in_flight_bytes_per_user": str(budget)}
    body = ("x" * 900 + "\r\n") * (octets // 902)
    with running(bus, tmp_path, **limits) as ingress:
        clients = [connect(ingress) for _ in range(50)]
        before = peak = resident(ingress)
        for client in clients:
            begin(client)
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(MAIL + body)
            peak = max(peak, resident(ingress))
            assert ingress.figure("postlane_ingress_in_flight_bytes") <= budget
        for client in clients:
            client.send(".\r\n")
        replies = [client.getreply() for client in clients]
        # Of a message being stored there are copies: as received, as checked, as sent. All fifty are 11 budgets.
        assert max(peak, resident(ingress)) - before < 4 * budget
        assert ingress.figure("postlane_ingress_in_flight_bytes") == 0
        for client in clients:
            client.quit()
    taken = [text for code, text in replies if code == 250]
    refused = [text for code, text in replies if code == 452]
    assert len(taken) + len(refused) == 50
    assert len(taken) == len(stored(bus))
    assert 1 <= len(taken) <= budget // octets
    assert all(text.startswith(b"4.3.1 ") for text in refused)


def test_a_crowd_of_slow_clients(bus: BusServer, tmp_path: Path) -> None:
    """Five thousand connections, silent, stuck in the handshake or dripping, and a good client goes on sending."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(5_000, (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
    with running(bus, tmp_path, strangers_per_address="20000") as ingress, contextlib.ExitStack() as held:
        before = resident(ingress)
        crowd = []
        for number in range(count):
            port = ingress.ports["tls" if number % 3 == 1 else "public"]
            crowd.append(held.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_SECONDS)))
            if number % 3 == 1:
                crowd[-1].send(b"\x16\x03\x01\x02\x00")  # the first octets of a ClientHello
        with connect(ingress) as client:
            for _ in range(10):
                for sock in crowd[2::3]:
                    sock.send(b"N")
                begin(client)
                assert client.data(MAIL)[0] == 250
        assert resident(ingress) - before < 64 * 1024 * count


def test_handshakes_that_never_come(impatient: IngressProcess) -> None:
    """Silence or garbage instead of a TLS handshake is hung up on, with STARTTLS and with implicit TLS."""
    for octets in (b"", b"garbage\r\n" * 10, b"EHLO x\r\n"):
        for where in ("public", "tls"):
            with socket.create_connection(("127.0.0.1", impatient.ports[where]), WAIT_SECONDS) as client:
                if where == "public":
                    assert client.recv(1000).startswith(b"220")
                    client.sendall(b"STARTTLS\r\n")
                    assert client.recv(1000).startswith(b"220")
                client.sendall(octets)
                with contextlib.suppress(ConnectionResetError):
                    while client.recv(1000):
                        pass


def test_a_hang_up_at_every_octet(bus: BusServer, tmp_path: Path) -> None:
    """P25, I4: left or reset after each octet of a session, only a whole message is stored, and nothing stays open."""
    login = base64.b64encode(b"\0alice\0alice-password")
    commands = b"EHLO x\r\nAUTH PLAIN %b\r\nMAIL FROM:<a@shop.example>\r\nRCPT TO:<b@y.example>\r\nDATA\r\n" % login
    message = MAIL.encode() + b".\r\n"
    with running(bus, tmp_path, strangers_per_address="1000") as ingress:
        connect(ingress).quit()  # what stays open for good is open now
        at_first = ingress.figure("process_open_fds")
        for cut in range(len(commands)):
            sock = socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS)
            client = client_context().wrap_socket(sock)
            client.sendall(commands[:cut])
            _leave(client, cut)
        for cut in range(len(message) + 1):
            submitter = connect(ingress)
            begin(submitter)
            submitter.putcmd("data")
            assert submitter.getreply()[0] == 354
            assert submitter.sock is not None
            submitter.sock.sendall(message[:cut])
            _leave(submitter.sock, cut)
            submitter.close()
        until(lambda: ingress.figure("postlane_ingress_sessions") == 0)
        until(lambda: ingress.figure("process_open_fds") <= at_first)
        assert ingress.figure("postlane_ingress_in_flight_bytes") == 0
    assert len(stored(bus)) <= 1


def _leave(sock: socket.socket, number: int) -> None:
    if number % 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    sock.close()


def test_guessers_do_not_stop_others(ingress: IngressProcess) -> None:
    """While many guess passwords at once, a client that is logged in goes on sending, and a good login succeeds."""
    client = connect(ingress)
    codes: list[int] = []
    guess = base64.b64encode(b"\0alice\0guess").decode()

    def guesser() -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            sock = socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS)
            with client_context().wrap_socket(sock) as secured:
                secured.sendall(f"EHLO x\r\nAUTH PLAIN {guess}\r\n".encode())
                for line in secured.makefile("rb"):
                    if line[:3] in (b"535", b"454", b"421"):
                        codes.append(int(line[:3]))
                        return

    threads = [threading.Thread(target=guesser) for _ in range(60)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        begin(client)
        assert client.data(MAIL)[0] == 250
    for thread in threads:
        thread.join()
    assert len(codes) == 60
    assert set(codes) <= {535, 454}
    assert connect(ingress).noop()[0] == 250


FRAGMENTS = [
    b"EHLO x\r\n",
    b"HELO x\r\n",
    b"MAIL FROM:<a@shop.example>\r\n",
    b"RCPT TO:<b@y.example>\r\n",
    b"DATA\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY x\r\n",
    b"AUTH PLAIN\r\n",
    b"AUTH LOGIN\r\n",
    b"*\r\n",
    b"=\r\n",
    b"AGFsaWNlAGFsaWNlLXBhc3N3b3Jk\r\n",
    b"STARTTLS\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"From: a@shop.example\r\n\r\n",
    b"text",
    b"\0",
    b"\xff\xfe",
    b"MAIL FROM:<> SIZE=99999999999999999999\r\n",
    b'RCPT TO:<"',
    b" ",
    b"\x16\x03\x01",
    b"BDAT 5 LAST\r\n12345",
    b"HELP\r\n",
]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngressProcess]:
    """Keep one ingress for all examples of the fuzzing test."""
    directory = tmp_path_factory.mktemp("fuzzed")
    (directory / "nats").mkdir()
    server = started(directory / "nats", SMALL)
    asyncio.run(seeded(server))
    with running(server, directory, command_seconds="2", data_seconds="2") as process:
        yield process
    server.stop()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20)), max_size=30),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_any_session(fuzzed: IngressProcess, fragments: list[bytes], login: bool, seed: int) -> None:
    """Whatever is sent, in whatever pieces: every reply is well formed, and no fault of ours shows."""
    dice = random.Random(seed)
    sock = socket.create_connection(("127.0.0.1", fuzzed.ports["tls"]), WAIT_SECONDS)
    with client_context().wrap_socket(sock) as client:
        if login:
            client.sendall(b"EHLO x\r\nAUTH PLAIN AGFsaWNlAGFsaWNlLXBhc3N3b3Jk\r\n")
        octets = b"".join(fragments)
        with contextlib.suppress(OSError):
            while octets:
                cut = dice.randint(1, len(octets))
                client.sendall(octets[:cut])
                octets = octets[cut:]
            client.sendall(b"\r\n.\r\nQUIT\r\n")
        answered = b""
        with contextlib.suppress(OSError):
            while received := client.recv(65_536):
                answered += received
    assert answered.startswith(b"220 ")
    lines = answered.splitlines(keepends=True)
    for line in lines:
        assert REPLY.fullmatch(line), line
        assert len(line) <= 512
        assert not line.startswith(b"451 "), line


def test_nothing_unasked_is_stored(bus: BusServer, ingress: IngressProcess) -> None:
    """A smuggled message stays text: every variant of an end, cut at every octet, stores one message or none."""
    smuggled = "MAIL FROM:<evil@shop.example>\r\nRCPT TO:<victim@y.example>\r\nDATA\r\nFrom: evil@shop.example\r\n\r\nx"
    for end in ("\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\r\n.\r\r\n", "\n\r.\n\r", "\r\n.\r", "\r\n\0.\r\n"):
        client = connect(ingress)
        for cut in range(len(end) + 1):
            begin(client)
            client.putcmd("data")
            assert client.getreply()[0] == 354
            client.send(MAIL + "text" + end[:cut])
            client.send(end[cut:] + smuggled + "\r\n.\r\n")
            assert client.getreply()[0] == 550
        client.quit()
    assert stored(bus) == []


def test_guesses_count_at_every_replica(bus: BusServer, tmp_path: Path) -> None:
    """Failures at one ingress delay the next failure at another one."""
    slow = {"failed_login_delay_seconds": "3", "failed_login_delay_cap_seconds": "3", "failed_logins": "10"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with running(bus, tmp_path / "one", **slow) as one, running(bus, tmp_path / "two", **slow) as two:
        assert _seconds_of_failures(two, 1) < 3
        _seconds_of_failures(one, 5)
        asyncio.run(_told(bus, 5.0))
        # Two more failures of its own would not delay anything yet.
        assert max(_seconds_of_failures(two, 1, user=user) for user in ("nobody", "somebody")) >= 3


async def _told(bus: BusServer, failures: float) -> None:
    """Wait until an ingress has told its siblings about almost so many failures."""
    connection = await bus.connect("ingress")
    try:
        bucket: Bucket[LoginFailures] = Bucket(connection, "logins", LoginFailures)
        async with asyncio.timeout(WAIT_SECONDS):
            while not any(
                max(entry.record.failures.values(), default=0.0) > failures - 0.5 for entry in await bucket.entries()
            ):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


def _seconds_of_failures(ingress: IngressProcess, count: int, user: str = "alice") -> float:
    sock = socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS)
    with client_context().wrap_socket(sock) as client:
        lines = client.makefile("rb")
        client.sendall(b"EHLO x\r\n")
        _read_until(lines, b"250 ")
        began = time.monotonic()
        for number in range(count):
            client.sendall(b"AUTH PLAIN " + base64.b64encode(f"\0{user}\0guess{number}".encode()) + b"\r\n")
            _read_until(lines, b"535")
        return time.monotonic() - began


def _read_until(lines: BinaryIO, beginning: bytes) -> None:
    while not (line := lines.readline()).startswith(beginning):
        assert line, "the session ended before"
