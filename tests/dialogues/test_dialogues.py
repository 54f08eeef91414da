"""Conversations with a real ingress, written down as text files that double as documentation.

Lines of a `.smtp` file:
  # …             a comment
  CONNECT what    connect to `public`, `private` or `tls`; optionally ` from 127.0.0.2`. Without it: `public`
  C: text         send a line; ${plain:u}, ${user:u} and ${pass:u} stand for the base64 of u's credentials, ${x*998}
                  for so many x
  C| text         send exactly these octets, in Python's escapes, and no line end
  S: text         expect this line; `…` stands for anything, `<queue ID>` and `<ref>` for one, `<same queue ID>` for
                  the last one seen
  S+ 250          expect a whole reply with this code
  TLS             shake hands
  HALF            close our sending side
  CLOSED          expect that the server closes
  STORED n        expect that this conversation has stored n messages, and by now no more
  PRESENT text    expect that these octets, in Python's escapes, are in a stored message
  ABSENT text     expect that these octets are in no stored message
  REASON text     expect that the last reference leads to an event with this true reason
"""

import asyncio
import base64
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from shared.bus.settings import Topology
from shared.contract.envelope import unpack
from shared.contract.events import SubmissionRefused
from tests.bus_server import BusServer, started
from tests.ingress_process import IngressProcess, client_context, password_of, seeded

HERE = Path(__file__).parent
REPLY_SECONDS = 30.0
_SPECIAL = re.compile(r"…|<queue ID>|<ref>")
_PATTERNS = {"…": ".*", "<queue ID>": "[0-9A-Z]{30}", "<ref>": r"\(ref R-[0-9A-Z]{10}\)"}
_QUEUE_ID = re.compile(r"\b[0-9A-Z]{30}\b")
_REFERENCE = re.compile(r"R-[0-9A-Z]{10}")
_MANY = re.compile(r"\$\{(\S+?)\*(\d+)\}")
_CREDENTIAL = re.compile(r"\$\{(plain|user|pass):(\w+)\}")


class Stage:
    """The servers every conversation of this file talks to."""

    def __init__(self, bus: BusServer, ingress: IngressProcess) -> None:
        """Use running servers."""
        self.bus = bus
        self.ingress = ingress

    def stored(self) -> list[bytes]:
        """Return the payloads of all fresh mail on the bus."""

        async def read() -> list[bytes]:
            bus = await self.bus.connect("delivery")
            try:
                return [
                    stored.payload
                    for shard in range(self.bus.topology.shards)
                    async for stored in bus.scan(f"MAIL_{shard}", "postlane.mail.>")
                ]
            finally:
                await bus.close()

        return asyncio.run(read())

    def refusal(self, reference: str) -> SubmissionRefused:
        """Return the event a reference leads to, waiting for it a little."""

        async def read() -> SubmissionRefused:
            bus = await self.bus.connect("tracker")
            try:
                deadline = time.monotonic() + REPLY_SECONDS
                while time.monotonic() < deadline:
                    async for stored in bus.scan("REFUSALS", "postlane.refused.>"):
                        event = msgspec.json.decode(stored.payload, type=SubmissionRefused)
                        if event.reference == reference:
                            return event
                    await asyncio.sleep(0.05)
            finally:
                await bus.close()
            raise AssertionError(f"no event with the reference {reference}")

        return asyncio.run(read())


class Client:
    """One side of a conversation."""

    def __init__(self, stage: Stage) -> None:
        """Connect when the text says so."""
        self._stage = stage
        self._socket: socket.socket | None = None
        self._received = b""
        self._reference = ""
        self._queue_id = ""
        self._stored_before = len(stage.stored())

    def perform(self, line: str) -> None:
        """Do what one line of the text says."""
        word, _, rest = line.partition(" ")  # an empty line is sent by `C:`
        match word:
            case "CONNECT":
                self._connect(*rest.split())
            case "C:":
                self._send(_filled(rest).encode() + b"\r\n")
            case "C|":
                self._send(_filled(rest).encode("latin-1").decode("unicode_escape").encode("latin-1"))
            case "S:":
                self._expect(rest.replace("<same queue ID>", self._queue_id))
            case "S+":
                self._expect_reply(rest)
            case "TLS":
                self._socket = client_context().wrap_socket(self._plain(), server_hostname="mail.test")
            case "HALF":
                self._plain().shutdown(socket.SHUT_WR)
            case "CLOSED":
                assert self._read_line() == "", "the server goes on talking"
            case "STORED":
                stored = self._stage.stored()
                assert len(stored) - self._stored_before == int(rest)
                for payload in stored:
                    unpack(payload)
            case "PRESENT":
                wanted = rest.encode("latin-1").decode("unicode_escape").encode("latin-1")
                assert any(wanted in payload for payload in self._stage.stored())
            case "ABSENT":
                for payload in self._stage.stored():
                    assert rest.encode() not in payload
            case "REASON":
                pattern = _pattern(rest)
                reason = self._stage.refusal(self._reference).reason
                assert re.fullmatch(pattern, reason), reason
            case _:
                raise AssertionError(f"the line means nothing: {line}")

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()

    def _plain(self) -> socket.socket:
        if self._socket is None:
            self._connect("public")
        assert self._socket is not None
        return self._socket

    def _connect(self, where: str, _from: str = "", source: str = "") -> None:
        self.close()
        port = self._stage.ingress.ports[where]
        self._socket = socket.create_connection(
            ("127.0.0.1", port), REPLY_SECONDS, source_address=(source, 0) if source else None
        )
        self._received = b""
        if where == "tls":
            self._socket = client_context().wrap_socket(self._socket, server_hostname="mail.test")

    def _send(self, octets: bytes) -> None:
        self._plain().sendall(octets)

    def _read_line(self) -> str:
        while b"\n" not in self._received:
            try:
                octets = self._plain().recv(65_536)
            except ConnectionResetError:
                octets = b""
            if not octets:
                assert not self._received, f"a reply without an end: {self._received!r}"
                return ""
            self._received += octets
        line, _, self._received = self._received.partition(b"\n")
        assert line.endswith(b"\r"), f"a reply line ends in a bare LF: {line!r}"
        assert len(line) + 1 <= 512, "RFC 5321 §4.5.3.1.5"
        text = line[:-1].decode("ascii")
        assert re.match(r"[2345]\d\d[ -]", text), text
        found = _REFERENCE.search(text)
        self._reference = found[0] if found else self._reference
        named = _QUEUE_ID.search(text)
        self._queue_id = named[0] if named else self._queue_id
        return text

    def _expect(self, text: str) -> None:
        line = self._read_line()
        assert re.fullmatch(_pattern(text), line), f"expected {text!r}, got {line!r}"

    def _expect_reply(self, code: str) -> None:
        while True:
            line = self._read_line()
            assert line.startswith(code), f"expected {code}, got {line!r}"
            if line[3:4] == " ":
                return


def _pattern(text: str) -> str:
    parts = _SPECIAL.split(text)
    specials = _SPECIAL.findall(text)
    found = re.escape(parts[0])
    for special, part in zip(specials, parts[1:], strict=True):
        found += _PATTERNS[special] + re.escape(part)
    return found


def _filled(text: str) -> str:
    return _MANY.sub(lambda many: many[1] * int(many[2]), _CREDENTIAL.sub(_credential, text))


def _credential(match: re.Match[str]) -> str:
    kind, user = match.groups()
    text = {"user": user, "pass": password_of(user), "plain": f"\0{user}\0{password_of(user)}"}[kind]
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Start one bus and one ingress for all conversations."""
    directory = tmp_path_factory.mktemp("dialogues")
    (directory / "nats").mkdir()
    bus = started(directory / "nats", Topology(shards=2, slots=2, mail_bytes=256 << 20))
    asyncio.run(seeded(bus))
    limits = {"message_bytes": "20000", "recipients": "5", "idle_commands": "12"}
    ingress = IngressProcess(bus, directory, command_seconds="20", data_seconds="20", **limits)
    ingress.start()
    yield Stage(bus, ingress)
    status = ingress.stop()
    bus.stop()
    assert status == 0, ingress.log.read_text()
    assert "Traceback" not in ingress.log.read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in HERE.glob("*.smtp")))
def test_dialogue(stage: Stage, name: str) -> None:
    """The server says what the text file says it says."""
    client = Client(stage)
    try:
        for number, line in enumerate((HERE / f"{name}.smtp").read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                try:
                    client.perform(line)
                except (AssertionError, OSError) as fault:
                    raise AssertionError(f"{name}.smtp line {number}: {line}: {fault}") from fault
    finally:
        client.close()
