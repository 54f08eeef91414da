"""The canonical lines of the process log: what an administrator finds of a message, a refusal and a session."""

import base64
import json
import smtplib
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, accepted, begin, bus, connect, running, stored
from tests.ingress_process import client_context, password_of

__all__ = ["bus"]


def test_canonical_lines(bus: BusServer, tmp_path: Path) -> None:
    """One line a message, a refusal and a session, each whole; all are JSON, and no password is among them."""
    with running(bus, tmp_path) as ingress:
        client = connect(ingress)
        begin(client)
        assert client.data(MAIL)[0] == 250
        code, text = client.mail("a@rival.example")
        assert code == 550
        reference = text.decode().rpartition("(ref ")[2].rstrip(")")
        client.quit()
        with smtplib.SMTP("127.0.0.1", ingress.ports["public"]) as stranger:
            assert stranger.mail("a@shop.example")[0] == 530
        [event] = accepted(bus, 1)
    lines: list[dict[str, Any]] = [json.loads(line) for line in ingress.log.read_text().splitlines()]
    [message] = [line for line in lines if line["text"] == "accepted"]
    [(envelope, mail)] = stored(bus)
    assert _without_times(message) == {
        "level": "info",
        "room": "ingress",
        "text": "accepted",
        "queue_id": event.queue_id,
        "instance": "a",
        "configuration": "shop",
        "lane": "transactional",
        "recipients": 1,
        "octets": len(mail),
        "message_id": envelope.message_id,
        "user": "alice",
        "client": "127.0.0.1",
        "endpoint": "public",
    }
    assert message["seconds"] > 0
    [refused] = [line for line in lines if line["text"] == "refused"]
    assert _without_times(refused) == {
        "level": "info",
        "room": "ingress",
        "text": "refused",
        "reference": reference,
        "code": 550,
        "enhanced": "5.7.1",
        "phase": "mail",
        "why": refused["why"],
        "instance": "a",
        "configuration": "",
        "user": "alice",
        "client": "127.0.0.1",
        "endpoint": "public",
    }
    assert "rival.example" in refused["why"]
    sessions = [line for line in lines if line["text"] == "session ended" and line["user"]]
    [session] = sessions
    assert session["received_octets"] > len(MAIL)
    assert _without_times(session) == {
        "level": "info",
        "room": "ingress",
        "text": "session ended",
        "user": "alice",
        "client": "127.0.0.1",
        "endpoint": "public",
        "client_name": session["client_name"],
        "tls": session["tls"],
        "accepted": 1,
        "refused": 1,
        "received_octets": session["received_octets"],
        "phase": "quit",
    }
    assert session["client_name"]
    assert session["tls"].startswith("TLSv1.3 ")
    log = ingress.log.read_text()
    assert password_of("alice") not in log
    with pytest.raises(AssertionError):  # the search finds what is there
        assert "alice" not in log


HOSTILE = '\x85\x9b31m\u2028{"text":"accepted","user":"root"}\u202e\'"\\'


def test_nothing_a_client_says_is_a_line_of_its_own(bus: BusServer, tmp_path: Path) -> None:
    """Ends of lines, quotes and controls in EHLO, username, MAIL and header stay inside the record they belong to."""
    with running(bus, tmp_path) as ingress:
        with socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS) as sock:
            stranger = client_context().wrap_socket(sock)
            guess = base64.b64encode(f"\0{HOSTILE}\0guess".encode()).decode()
            stranger.sendall(f'EHLO a"}}\\,\r\nAUTH PLAIN {guess}\r\nMAIL FROM:<{HOSTILE}>\r\nQUIT\r\n'.encode())
            while stranger.recv(10_000):
                pass
        with connect(ingress) as client:
            assert client.mail(f"{HOSTILE}@shop.example", ["SMTPUTF8"])[0] == 501
            begin(client)
            message = f"From: a@shop.example\r\nMessage-ID: <{HOSTILE}>\r\nSubject: {HOSTILE}\r\n\r\nx\r\n"
            assert client.data(message.encode())[0] == 250
    text = ingress.log.read_text()
    assert not any(each in text for each in "\x1b\x85\x9b\u2028\u202e")
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["user"] for line in lines if line["text"] == "accepted"] == ["alice"]
    [message_id] = [line["message_id"] for line in lines if line["text"] == "accepted"]
    assert message_id == f"<{HOSTILE}>"
    assert {line["client_name"] for line in lines if line["text"] == "session ended"} >= {'a"}\\,'}


def _without_times(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in ("at", "seconds")}
