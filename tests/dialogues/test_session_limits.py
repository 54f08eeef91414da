"""Limits of one session and of one network: time, transactions, unread replies, connections, silent balancers."""

import smtplib
import socket
import time
from pathlib import Path

import msgspec
import pytest

from services.ingress.core.commands import ENVELOPE_BYTES
from services.ingress.smtpd import RECIPIENTS_TOLD
from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, begin, bus, connect, refusals, running, stored
from tests.ingress_process import client_context, password_of

__all__ = ["bus"]

STOPPED = "ingress is shutting down"


def test_a_session_has_an_end(bus: BusServer, tmp_path: Path) -> None:
    """Commands without a pause do not keep a session open past its time; the limit of idle commands is far away."""
    with running(bus, tmp_path, session_seconds="5", idle_commands="100000000") as ingress, connect(ingress) as client:
        deadline = time.monotonic() + WAIT_SECONDS
        code, text = client.noop()
        assert code == 250
        while code == 250:
            assert time.monotonic() < deadline
            code, text = client.noop()
        assert code == 421
        assert text.startswith(b"4.4.2 Timed out")


def test_whom_a_refusal_is_told(bus: BusServer, tmp_path: Path) -> None:
    """What a client that is logged in is refused stands in its tenant's feed, a stranger's only in the operator's."""
    with running(bus, tmp_path, command_seconds="4") as ingress:
        with connect(ingress) as client:
            assert client.docmd("XYZZY")[0] == 500
            assert client.docmd("MAIL", "FROM:<no at sign>")[0] == 501
            assert client.getreply()[0] == 421  # nothing came in time
        with smtplib.SMTP("127.0.0.1", ingress.ports["public"], timeout=WAIT_SECONDS) as stranger:
            stranger.ehlo()
            assert stranger.docmd("XYZZY")[0] == 500
    told = [(event.instance, event.username, event.code) for event in refusals(bus)]
    assert sorted(told) == [
        ("", "", 500), ("a", "alice", 421), ("a", "alice", 500), ("a", "alice", 501)
    ]  # fmt: skip


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


def test_what_was_pipelined_behind_a_refused_mail(bus: BusServer, tmp_path: Path) -> None:
    """Recipients sent before the client could know are no errors that end its session; without end they are."""
    with running(bus, tmp_path, recipients="30") as ingress, connect(ingress, "sam") as client:
        recipients = "".join(f"RCPT TO:<{number}@y.example>\r\n" for number in range(30))
        for _ in range(3):
            client.send(f"MAIL FROM:<a@stopped.example>\r\n{recipients}DATA\r\n")
            assert [client.getreply()[0] for _ in range(32)] == [550] + [503] * 31
        assert client.noop()[0] == 250
        client.send("RCPT TO:<one@y.example>\r\n" * 30)
        codes = [client.getreply()[0] for _ in range(18)]
        assert codes == [503] * 17 + [421]


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


def test_whom_there_is_no_room_for_before_tls(bus: BusServer, tmp_path: Path) -> None:
    """The port that begins with TLS can say nothing to one client too many; the operator hears of it all the same."""
    with running(bus, tmp_path, strangers_per_address="1") as ingress:
        where = ("127.0.0.1", ingress.ports["tls"])
        with client_context().wrap_socket(socket.create_connection(where, WAIT_SECONDS)) as first:
            assert first.recv(100).startswith(b"220 ")
            with socket.create_connection(where, WAIT_SECONDS) as second:
                assert second.recv(100) == b""
            assert 'postlane_ingress_refused_total{code="421",phase="connect"} 1.0' in ingress.metrics()
    [(phase, reason)] = [(event.phase, event.reason) for event in refusals(bus) if event.reason != STOPPED]
    assert (phase, reason) == ("connect", "1 connections without login from 127.0.0.1, the limit is 1")


def test_a_balancer_that_says_nothing(bus: BusServer, tmp_path: Path) -> None:
    """Who must begin with a PROXY header and sends none is cut off without a greeting."""
    with running(bus, tmp_path, proxy_networks="127.0.0.2/32", proxy_header_seconds="0.5") as ingress:
        where = ("127.0.0.1", ingress.ports["public"])
        with socket.create_connection(where, WAIT_SECONDS, source_address=("127.0.0.2", 0)) as silent:
            assert silent.recv(100) == b""


def test_a_list_far_too_long(bus: BusServer, tmp_path: Path) -> None:
    """Each recipient too many is told 452, and all of them are one event and one line; those before stay."""
    count = 2_000
    with running(bus, tmp_path, recipients="3") as ingress, connect(ingress) as client:
        begin(client, "a@client.example")
        client.rcpt("b@client.example")
        client.rcpt("c@client.example")
        client.send("".join(f"RCPT TO:<{number}@client.example>\r\n" for number in range(count)))
        replies = {client.getreply() for _ in range(count)}
        assert {code for code, _ in replies} == {452}
        assert len(replies) == 1, "one reference"
        assert client.data(MAIL)[0] == 250
        # In the next transaction it is another refusal.
        begin(client)
        for number in range(3):
            client.rcpt(f"{number}@client.example")
    [first, second] = refusals(bus)
    assert first.reference in replies.pop()[1].decode()
    assert second.reference != first.reference
    assert first.recipients == ("a@client.example", "b@client.example", "c@client.example")
    assert ingress.log.read_text().count('"text":"refused"') == 2


def test_recipients_too_long_together(bus: BusServer, tmp_path: Path) -> None:
    """An envelope that would not fit beside the largest message is told 452 at RCPT; what came before is stored."""
    orcpt = "ORCPT=rfc822;" + "x" * 480
    with running(bus, tmp_path, recipients="10000") as ingress, connect(ingress) as client:
        assert client.mail("a@shop.example")[0] == 250
        client.send("".join(f"RCPT TO:<{number}@y.example> {orcpt}\r\n" for number in range(1_000)))
        replies = [client.getreply() for _ in range(1_000)]
        taken = [code for code, _ in replies].index(452)
        assert taken > 500
        assert replies[taken][1].startswith(b"4.5.3 Too many recipients")
        assert client.data(MAIL)[0] == 250
    [(envelope, _)] = stored(bus)
    assert len(envelope.recipients) >= taken
    assert len(msgspec.json.encode(envelope)) <= ENVELOPE_BYTES
    [event] = refusals(bus)
    assert event.recipients == tuple(f"{number}@y.example" for number in range(RECIPIENTS_TOLD))


def test_refusals_of_one_tenant_do_not_crowd_out_those_of_others(bus: BusServer, tmp_path: Path) -> None:
    """Beyond its share a tenant's refusals are only counted; it is told what is wrong all the same."""
    with running(bus, tmp_path, tenant_refusal_events_per_minute="1") as ingress, connect(ingress) as client:
        for number in range(15):
            code, text = client.mail(f"{number}@rival.example")
            assert (code, b"(ref R-" in text) == (550, True)
        other = smtplib.SMTP("127.0.0.1", ingress.ports["private"], timeout=WAIT_SECONDS)
        other.starttls(context=client_context())
        other.login("carol", password_of("carol"))
        assert other.mail("a@shop.example")[0] == 550
        other.close()
    instances = [event.instance for event in refusals(bus)]
    assert instances.count("c") == 1
    assert 1 <= instances.count("a") <= 2, "two if a minute has just ended"
    assert ingress.log.read_text().count('"text":"refused"') == len(instances)
