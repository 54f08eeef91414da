"""Limits of one session and of one network: time, transactions, unread replies, connections, silent balancers."""

import smtplib
import socket
import time
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.dialogues.test_server import WAIT_SECONDS, begin, bus, connect, running

__all__ = ["bus"]


def test_a_session_has_an_end(bus: BusServer, tmp_path: Path) -> None:
    """Commands without a pause do not keep a session open past its time; the limit of idle commands is far away."""
    with running(bus, tmp_path, session_seconds="2", idle_commands="100000000") as ingress, connect(ingress) as client:
        deadline = time.monotonic() + WAIT_SECONDS
        code, text = client.noop()
        assert code == 250
        while code == 250:
            assert time.monotonic() < deadline
            code, text = client.noop()
        assert code == 421
        assert text.startswith(b"4.4.2 Timed out")


def test_a_client_that_never_reads(bus: BusServer, tmp_path: Path) -> None:
    """Replies nobody fetches are not collected for ever: the connection is cut, and others go on."""
    with (
        running(bus, tmp_path, reply_seconds="1", idle_commands="100000000") as ingress,
        socket.create_connection(("127.0.0.1", ingress.ports["public"]), WAIT_SECONDS) as deaf,
        connect(ingress) as other,
    ):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # without the limit: TimeoutError
            _talk(deaf)
        assert other.noop()[0] == 250


def _talk(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"NOOP\r\n" * 1000)


def test_transactions_of_a_session(bus: BusServer, tmp_path: Path) -> None:
    """The one too many ends the session; those before it were accepted."""
    with running(bus, tmp_path, transactions="2") as ingress:
        client = connect(ingress)
        for _ in range(2):
            begin(client)
            assert client.data("From: a@shop.example\r\n\r\nx\r\n")[0] == 250
        assert client.mail("a@shop.example")[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()


def test_connections_of_a_network(bus: BusServer, tmp_path: Path) -> None:
    """Addresses of one /24 count together, those of another one do not; a place that is left is free again."""
    with running(bus, tmp_path, connections_per_network="2") as ingress:

        def greeting(source: str) -> tuple[int, socket.socket]:
            where = ("127.0.0.1", ingress.ports["public"])
            sock = socket.create_connection(where, WAIT_SECONDS, source_address=(source, 0))
            return int(sock.recv(1000)[:3]), sock

        made = [greeting(source) for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.1.2")]
        assert [code for code, _ in made] == [220, 220, 421, 220]
        for _, sock in made:
            sock.close()
        deadline = time.monotonic() + WAIT_SECONDS
        while True:  # the server hears of the end in its own time
            code, sock = greeting("127.0.0.5")
            sock.close()
            if code == 220:
                break
            assert time.monotonic() < deadline


def test_a_balancer_that_says_nothing(bus: BusServer, tmp_path: Path) -> None:
    """Who must begin with a PROXY header and sends none is cut off without a greeting."""
    with running(bus, tmp_path, proxy_networks="127.0.0.2/32", proxy_header_seconds="0.5") as ingress:
        where = ("127.0.0.1", ingress.ports["public"])
        with socket.create_connection(where, WAIT_SECONDS, source_address=("127.0.0.2", 0)) as silent:
            assert silent.recv(100) == b""
