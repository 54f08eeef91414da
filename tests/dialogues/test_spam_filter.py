"""A scripted spam filter: what it is told, and what follows from its word, its silence and its absence."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.command.ports import free_port
from tests.bus_server import BusServer
from tests.dialogues.test_server import accepted, begin, connect, running, stored, with_tenants
from tests.ingress_process import IngressProcess, Tenants, seeded

MAIL = "From: a@shop.example\r\nSubject: {subject}\r\n\r\nHello\r\n"


class Filter:
    """Answers as the subject of a message says; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, list[str]], bytes]] = []
        self.silence = threading.Event()
        told, silence = self.told, self.silence

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name: self.headers.get_all(name, []) for name in self.headers}
                told.append((headers, message))
                if b"silence" in message:
                    silence.wait(30)
                action = "reject" if b"spam" in message else "no action"
                answer: bytes = json.dumps(
                    {"action": action, "score": 16.0, "required_score": 15.0, "symbols": {}}
                ).encode()
                code = 200
                if b"nonsense" in message:
                    answer = b"<html>"
                if b"broken" in message:
                    code = 500
                self.send_response(code)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self.silence.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def spam_filter() -> Iterator[Filter]:
    """Give a test a filter."""
    found = Filter()
    yield found
    found.close()


@pytest.fixture
def bus(bus_server: BusServer) -> BusServer:
    """Give a test a bus whose `shop` refuses spam and whose `second` only remarks on it."""

    async def policies(tenants: Tenants) -> None:
        await tenants.configuration("a", "shop", "shop.example", spam_policy="refuse")
        await tenants.configuration("a", "second", "second.example", spam_policy="warn")

    asyncio.run(seeded(bus_server))
    with_tenants(bus_server, policies)
    return bus_server


def submit(ingress: IngressProcess, subject: str, domain: str = "shop.example") -> tuple[int, str]:
    """Send one message and return the final reply."""
    with connect(ingress) as client:
        client.mail(f"a@{domain}")
        client.rcpt("b@y.example")
        client.rcpt("c@y.example")
        code, text = client.data(MAIL.format(subject=subject).replace("shop.example", domain))
    return code, text.decode()


def test_its_word_counts(bus: BusServer, tmp_path: Path, spam_filter: Filter) -> None:
    """Spam is refused or remarked on, as the configuration says; the filter hears what the message does not say."""
    with running(bus, tmp_path, spam_url=spam_filter.url) as ingress:
        assert submit(ingress, "news")[0] == 250
        [(headers, message)] = spam_filter.told
        assert message == MAIL.format(subject="news").encode()
        assert headers["Rcpt"] == ["b@y.example", "c@y.example"]
        assert [headers[name] for name in ("From", "IP", "User")] == [["a@shop.example"], ["127.0.0.1"], ["alice"]]
        code, text = submit(ingress, "spam")
        assert code == 554
        assert "the spam filter takes it for spam (reject, 16.0 of 15.0)" in text
        assert len(stored(bus)) == 1
        assert submit(ingress, "spam", "second.example")[0] == 250
        findings = {event.configuration: event.findings for event in accepted(bus, 2)}
        assert findings == {"shop": (), "second": ("the spam filter takes it for spam (reject, 16.0 of 15.0)",)}


def test_without_an_answer_mail_goes_on(bus: BusServer, tmp_path: Path, spam_filter: Filter) -> None:
    """By default; the remark says why it was not judged."""
    with running(bus, tmp_path, spam_url=spam_filter.url, spam_seconds="3") as ingress:
        for subject in ("silence", "nonsense", "broken"):
            assert submit(ingress, subject)[0] == 250
    remarks = {event.subject: event.findings for event in accepted(bus, 3)}
    assert all(len(each) == 1 and each[0].startswith("the spam filter did not answer") for each in remarks.values())
    assert "cannot be read" in remarks["nonsense"][0]
    assert "500" in remarks["broken"][0]


def test_without_an_answer_mail_waits_where_the_setting_says_so(bus: BusServer, tmp_path: Path) -> None:
    """Fail closed: 451 for configurations that refuse spam, and nobody else; with the filter back they go on."""
    url = f"http://127.0.0.1:{free_port()}"
    with running(bus, tmp_path, spam_url=url, spam_unreachable="defer") as ingress:
        code, text = submit(ingress, "hello")
        assert (code, text.startswith("4.7.1 The spam filter does not answer")) == (451, True)
        assert submit(ingress, "hello", "second.example")[0] == 250
        assert len(stored(bus)) == 1


def test_nobody_is_asked_about_mail_of_others(bus: BusServer, tmp_path: Path, spam_filter: Filter) -> None:
    """A configuration whose policy is off, and a message beyond the size: no question."""
    with running(bus, tmp_path, spam_url=spam_filter.url, spam_bytes="100") as ingress:
        with connect(ingress, "fay") as client:
            client.mail("a@files.example")
            client.rcpt("b@y.example")
            assert client.data(MAIL.format(subject="spam").replace("shop", "files"))[0] == 250
        with connect(ingress) as client:
            begin(client)
            assert client.data(MAIL.format(subject="spam") + "x" * 100)[0] == 250
        assert spam_filter.told == []
