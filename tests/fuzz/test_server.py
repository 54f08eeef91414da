"""The real server, spoken to at random: it answers in form, never shows an exception, and goes on serving."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from shared.bus.settings import Topology
from tests.bus_server import started
from tests.dialogues.test_server import begin, connect
from tests.ingress_process import IngressProcess, client_context, seeded

REPLY = re.compile(rb"[2345]\d\d[ -][\x20-\x7e]{0,506}\r\n")
SESSIONS = 120
VERBS = [
    b"EHLO x", b"MAIL FROM:<a@shop.example>", b"RCPT TO:<b@y.example>", b"DATA", b"RSET", b"AUTH LOGIN", b"AUTH PLAIN",
    b"BDAT 10 LAST", b"STARTTLS", b"NOOP", b"VRFY x", b"XCLIENT", b".",
]  # fmt: skip
pieces = st.one_of(
    st.sampled_from(VERBS).map(lambda verb: verb + b"\r\n"),
    st.sampled_from(VERBS).flatmap(lambda verb: st.binary(max_size=20).map(lambda tail: verb + tail + b"\r\n")),
    st.binary(max_size=200),
    st.sampled_from([b"\n", b"\r", b"\r\n.\r\n", b"\n.\n", b"\x00", b"x" * 3_000, b"\x16\x03\x01", b"\xff\xfe"]),
)


@pytest.fixture(scope="module")
def ingress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IngressProcess]:
    """Start one bus and one ingress for all sessions."""
    directory: Path = tmp_path_factory.mktemp("fuzz")
    (directory / "nats").mkdir()
    bus = started(directory / "nats", Topology(shards=2, slots=2, mail_bytes=256 << 20))
    asyncio.run(seeded(bus))
    process = IngressProcess(bus, directory, command_seconds="5", data_seconds="5", connections_per_address="500")
    process.start()
    yield process
    status = process.stop()
    bus.stop()
    log = process.log.read_text()
    assert status == 0, log
    assert "Traceback" not in log
    assert '"level":"info"' in log
    assert '"level":"error"' not in log, log


@given(octets=st.lists(pieces, max_size=12).map(b"".join), secure=st.booleans())
@settings(max_examples=SESSIONS, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_random_sessions(ingress: IngressProcess, octets: bytes, secure: bool) -> None:
    """Whatever is sent, every line that comes back is a reply, and the connection ends when we end it."""
    heard = b""
    with socket.create_connection(("127.0.0.1", ingress.ports["tls" if secure else "public"]), 60) as plain:
        client = client_context().wrap_socket(plain, server_hostname="mail.test") if secure else plain
        # The server may leave first, as it does with those who do not speak SMTP.
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.sendall(octets + b"\r\n.\r\nQUIT\r\n")
            if not secure:
                client.shutdown(socket.SHUT_WR)
            while more := client.recv(65_536):
                heard += more
    in_clear, agreed, _handshake = heard.partition(b"220 2.0.0 Ready to start TLS\r\n")
    rest = REPLY.sub(b"", in_clear + agreed)
    assert rest == b"", rest


def test_it_still_serves(ingress: IngressProcess) -> None:
    """After all that, a good client is served as before."""
    with connect(ingress) as client:
        begin(client)
        assert client.data("From: a@shop.example\r\n\r\nstill here\r\n")[0] == 250


def test_labels_are_words_of_ours(ingress: IngressProcess) -> None:
    """T10: whatever was sent, no label of a metric has anything of it."""
    with connect(ingress) as client:
        assert client.docmd("XYZZY", "x")[0] == 500
    values = {
        (name, value)
        for line in ingress.metrics()
        if line.startswith("postlane_") and "{" in line
        for name, value in re.findall(r'(\w+)="([^"]*)"', line)
    }
    phases = {value for name, value in values if name == "phase"}
    assert "command" in phases
    assert phases <= {"connect", "tls", "auth", "mail", "rcpt", "data", "command"}
    assert all(re.fullmatch(r"[45]\d\d", value) for name, value in values if name == "code")
    assert {value for name, value in values if name == "outcome"} <= {"ok", "failed", "busy"}
    assert {name for name, _ in values} <= {"phase", "code", "outcome", "lane", "le"}
