"""The sandbox on real sockets: DNS packets, SMTP dialogues, files on disk."""

import asyncio
import contextlib
import hashlib
import smtplib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from typer.testing import CliRunner

from services.sandbox import commands
from services.sandbox.cli import app
from services.sandbox.exchanger import Exchanger
from services.sandbox.listener import CannotListen
from services.sandbox.maildir import deliveries
from services.sandbox.nameserver import NameServer
from services.sandbox.settings import SandboxSettings
from services.sandbox.zones import ZoneFault

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
MAIL = b"From: a@demo.example\r\nMessage-ID: <1@demo.example>\r\n\r\nHello\r\n"


class Resolver:
    """Asks the sandbox's name server."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(
        self, name: str, kind: str, *, tcp: bool = False, edns: bool = False, seconds: float = 30
    ) -> dns.message.Message:
        """Ask one question."""
        query = dns.message.make_query(name, kind, use_edns=0 if edns else -1, payload=4096)
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await ask(query, LOOPBACK, port=self.port, timeout=seconds)

    async def values(self, name: str, kind: str) -> list[str]:
        """Return the values of an answer."""
        response = await self.ask(name, kind, tcp=True)
        return [rdata.to_text() for rrset in response.answer for rdata in rrset]


@pytest.fixture
async def resolver(tmp_path: Path) -> AsyncIterator[Resolver]:
    """Run a name server on the zones of `tmp_path`."""
    server = NameServer(tmp_path, ttl_seconds=1, idle_seconds=5)
    yield Resolver(await server.start(LOOPBACK, 0))
    await server.close()


def test_a_zone_file_is_published_or_refused_whole(tmp_path: Path) -> None:
    """Long TXT values are joined, several records of a name stay together, and a broken file changes nothing."""
    text = (
        'demo.example. 300 IN TXT "v=spf1 " "-all"\n; a remark\n'
        "demo.example. IN MX 10 a.example.\ndemo.example. IN MX 20 b.example.\n"
    )
    assert commands.load_zone_file(tmp_path, text) == 3
    listed = {(each.name.rstrip("."), each.type): each.values for each in commands.list_records(tmp_path)}
    assert listed[("demo.example", "TXT")] == ("v=spf1 -all",)
    assert listed[("demo.example", "MX")] == ("10 a.example.", "20 b.example.")
    with pytest.raises(ZoneFault, match="not a zone file"):
        commands.load_zone_file(tmp_path, "new.example. IN TXT ok\nnew.example. IN NONSENSE x\n")
    assert not commands.list_records(tmp_path, "new.example")


async def test_records_are_answered_as_they_change(resolver: Resolver, tmp_path: Path) -> None:
    """A record set, replaced and removed while the server runs is seen by the next question."""
    assert (await resolver.ask("demo.example", "TXT")).rcode() == dns.rcode.NXDOMAIN
    commands.set_record(tmp_path, "Demo.Example.", "txt", ("v=spf1 -all",))
    assert await resolver.values("demo.example", "TXT") == ['"v=spf1 -all"']
    commands.set_record(tmp_path, "demo.example", "TXT", ("v=spf1 +all", "other"))
    assert sorted(await resolver.values("DEMO.example", "TXT")) == ['"other"', '"v=spf1 +all"']
    commands.set_record(tmp_path, "demo.example", "MX", ("10 mx.demo.example",), ttl_seconds=77)
    response = await resolver.ask("demo.example", "MX")
    assert response.flags & dns.flags.AA
    assert response.answer[0].ttl == 77
    assert commands.remove(tmp_path, "demo.example", "TXT") == 1
    assert (await resolver.ask("demo.example", "TXT")).rcode() == dns.rcode.NOERROR
    assert commands.remove(tmp_path, "demo.example") == 1
    assert (await resolver.ask("demo.example", "TXT")).rcode() == dns.rcode.NXDOMAIN


async def test_every_kind_of_record_is_served(resolver: Resolver, tmp_path: Path) -> None:
    """Addresses, exchangers, aliases, name servers, authority, pointers and policies."""
    records = {
        "A": "192.0.2.1", "AAAA": "2001:db8::1", "MX": "10 mx.x.example.", "NS": "ns.x.example.", "CAA": '0 issue "ca"',
        "SOA": "ns.x.example. host.x.example. 1 2 3 4 5", "TLSA": "3 1 1 " + "ab" * 32, "PTR": "x.example.",
    }  # fmt: skip
    for kind, value in records.items():
        commands.set_record(tmp_path, f"{kind}.example", kind, (value,))
        assert await resolver.values(f"{kind}.example", kind) == [value]
    commands.set_record(tmp_path, "alias.example", "CNAME", ("a.example",))
    assert await resolver.values("alias.example", "A") == ["a.example.", "192.0.2.1"]
    negative = await resolver.ask("x.soa.example", "A")
    assert negative.rcode() == dns.rcode.NXDOMAIN
    assert negative.authority[0].name.to_text() == "soa.example."


async def test_a_long_text_is_cut_into_strings_and_truncated_over_udp(resolver: Resolver, tmp_path: Path) -> None:
    """An answer over 512 octets has TC set over UDP, comes whole over TCP and, up to the size told, with EDNS."""
    key = "v=DKIM1; p=" + "k" * 600
    commands.set_record(tmp_path, "s._domainkey.demo.example", "TXT", (key,))
    small = await resolver.ask("s._domainkey.demo.example", "TXT")
    assert small.flags & dns.flags.TC
    assert small.answer == []
    for whole in (
        await resolver.ask("s._domainkey.demo.example", "TXT", tcp=True),
        await resolver.ask("s._domainkey.demo.example", "TXT", edns=True),
    ):
        assert not whole.flags & dns.flags.TC
        strings = whole.answer[0][0].strings
        assert [len(part) for part in strings] == [255, 255, 101]
        assert b"".join(strings).decode() == key
    commands.set_record(tmp_path, "big.example", "TXT", ("b" * 3000,))
    assert (await resolver.ask("big.example", "TXT", edns=True)).flags & dns.flags.TC
    assert sum(len(part) for part in (await resolver.ask("big.example", "TXT", tcp=True)).answer[0][0].strings) == 3000


async def test_faults_are_pretended(resolver: Resolver, tmp_path: Path) -> None:
    """Failing servers, refusals, lame answers and silence, and the truth again once the fault is gone."""
    commands.set_record(tmp_path, "f.example", "TXT", ("true",))
    for kind, rcode in (("SERVFAIL", dns.rcode.SERVFAIL), ("REFUSED", dns.rcode.REFUSED)):
        commands.set_record(tmp_path, "f.example", "FAULT", (kind,))
        assert (await resolver.ask("f.example", "TXT")).rcode() == rcode
    commands.set_record(tmp_path, "f.example", "FAULT", ("LAME",))
    lame = await resolver.ask("f.example", "TXT")
    assert not lame.flags & dns.flags.AA
    assert lame.answer == []
    commands.set_record(tmp_path, "f.example", "FAULT", ("TIMEOUT",))
    for tcp in (False, True):
        with pytest.raises(dns.exception.Timeout):
            await resolver.ask("f.example", "TXT", tcp=tcp, seconds=0.3)
    commands.remove(tmp_path, "f.example", "FAULT")
    assert await resolver.values("f.example", "TXT") == ['"true"']


async def test_broken_packets_are_answered_or_ignored(resolver: Resolver) -> None:
    """Noise gets a format error by its identifier; answers get nothing; the server goes on."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        probe.connect((LOOPBACK, resolver.port))
        answer = dns.message.make_response(dns.message.make_query("x.example", "A")).to_wire()
        for packet in (b"", b"\x00", answer, struct.pack("!HHHHHH", 7, 0, 9, 0, 0, 0)):
            await loop.sock_sendall(probe, packet)
        told = await asyncio.wait_for(loop.sock_recv(probe, 512), 30)
    assert told[:2] == b"\x00\x07"
    assert dns.message.from_wire(told).rcode() == dns.rcode.FORMERR
    assert (await resolver.ask("x.example", "AXFR", tcp=True)).rcode() == dns.rcode.REFUSED


def test_impossible_records_are_refused_with_the_reason(tmp_path: Path) -> None:
    """Nothing is written of a record that could not be served."""
    for name, kind, values in (
        ("x.example", "A", ("300.1.1.1",)), ("x..example", "A", ("127.0.0.1",)), ("x.example", "WHAT", ("1",)),
        ("x.example", "ANY", ("1",)), ("x.example", "CNAME", ("a", "b")), ("x.example", "FAULT", ("SOMETIMES",)),
        ("x.example", "MX", ("mx.example",)), ("x.example", "A", ()),
    ):  # fmt: skip
        with pytest.raises(ZoneFault):
            commands.set_record(tmp_path, name, kind, values)
    commands.set_record(tmp_path, "x.example", "A", ("127.0.0.1",))
    with pytest.raises(ZoneFault, match="remove"):
        commands.set_record(tmp_path, "x.example", "CNAME", ("y.example",))
    assert [(r.name, r.type) for r in commands.list_records(tmp_path)] == [("x.example", "A")]


def test_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    """Forty changes from eight threads are all there."""
    with ThreadPoolExecutor(8) as pool:
        for change in [
            pool.submit(commands.set_record, tmp_path, f"n{i}.example", "A", ("127.0.0.1",)) for i in range(40)
        ]:
            change.result()
    assert len(commands.list_records(tmp_path, "example")) == 40
    assert commands.list_records(tmp_path, "n1.example") == [commands.Listed("n1.example", "A", ("127.0.0.1",))]


def test_the_commands_set_list_and_remove(tmp_path: Path) -> None:
    """The verbs of the command line do what they say and tell what went wrong."""
    runner, where = CliRunner(), ["--directory", str(tmp_path)]
    assert runner.invoke(app, ["dns", "set", *where, "x.example", "TXT", "v=spf1 -all"]).exit_code == 0
    assert "v=spf1 -all" in runner.invoke(app, ["dns", "ls", *where]).output
    assert '"type": "TXT"' in runner.invoke(app, ["dns", "ls", *where, "-o", "json"]).output
    assert runner.invoke(app, ["dns", "set", *where, "x.example", "A", "nonsense"]).exit_code == 7
    assert runner.invoke(app, ["dns", "rm", *where, "x.example"]).exit_code == 0
    assert runner.invoke(app, ["dns", "rm", *where, "x.example"]).exit_code == 4
    assert "no such record" in runner.invoke(app, ["dns", "ls", *where, "x.example"]).output
    assert runner.invoke(app, ["dns", "ls", *where, "-o", "poem"]).exit_code != 0


class Mail:
    """Sends to the sandbox's exchanger."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0

    async def run(self, dialogue: Callable[[smtplib.SMTP], T]) -> T:
        """Hold a dialogue in a thread."""

        def hold() -> T:
            with contextlib.closing(smtplib.SMTP(LOOPBACK, self.port, "client.example", 10)) as client:
                return dialogue(client)

        return await asyncio.to_thread(hold)

    async def send(self, *recipients: str, content: bytes = MAIL) -> int:
        """Send one message; return the code of the final reply, or of the refused recipient."""

        def dialogue(client: smtplib.SMTP) -> int:
            try:
                client.sendmail("a@demo.example", recipients, content)
            except smtplib.SMTPResponseException as fault:
                return int(fault.smtp_code)
            except smtplib.SMTPRecipientsRefused as fault:
                return int(next(iter(fault.recipients.values()))[0])
            except smtplib.SMTPServerDisconnected:
                return 0
            return 250

        return await self.run(dialogue)


@contextlib.asynccontextmanager
async def exchanging(directory: Path, **more: object) -> AsyncIterator[Mail]:
    """Run an exchanger."""
    exchanger = Exchanger(SandboxSettings(directory=directory, **more))  # type: ignore[arg-type]
    mail = Mail(directory)
    mail.port = await exchanger.start(LOOPBACK, 0)
    try:
        yield mail
    finally:
        await exchanger.close()


async def test_a_message_is_kept_octet_for_octet(tmp_path: Path) -> None:
    """Dots, 8-bit octets, long lines and a last line without an end arrive as they were sent, over TLS too."""
    content = b"Message-ID: <x@demo.example>\r\n\r\n.\r\n..two\r\n\xff\xfe\r\n" + b"y" * 998 + b"\r\n \r\n"
    async with exchanging(tmp_path) as mail:

        def dialogue(client: smtplib.SMTP) -> None:
            trusting = ssl.create_default_context(cafile=tmp_path / "mx-tls" / "ca.pem")
            trusting.check_hostname = False
            client.starttls(context=trusting)
            client.sendmail("a@demo.example", ["delivered@x.example", "b@x.example"], content, ["BODY=8BITMIME"])

        await mail.run(dialogue)
        assert await mail.send("c@x.example") == 250
    first, second = deliveries(tmp_path)
    assert (tmp_path / "Maildir" / "new" / first.file).read_bytes() == content
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert (first.sender, first.recipients) == ("a@demo.example", ("delivered@x.example", "b@x.example"))
    assert first.tls.startswith("TLSv1.3 ")
    assert second.tls == ""
    assert second.message_id == "<1@demo.example>"


async def test_recipients_decide_what_happens(tmp_path: Path) -> None:
    """Each script is followed; what was refused or dropped is not kept."""
    async with exchanging(tmp_path) as mail:
        assert await mail.send("bounce+552-5.2.2@x.example") == 552
        assert await mail.send("reject-data@x.example") == 554
        assert await mail.send("reject-data+452-4.3.1@x.example") == 452
        assert await mail.send("drop@x.example") == 0
        assert deliveries(tmp_path) == []
        assert await mail.send("drop-stored@x.example") == 0
        assert await mail.send("slow+1s@x.example") == 250
        assert await mail.send("delivered@x.example", "bounce@x.example") == 250
    assert [d.recipients for d in deliveries(tmp_path)] == [
        ("drop-stored@x.example",), ("slow+1s@x.example",), ("delivered@x.example",),
    ]  # fmt: skip


async def test_deferrals_are_counted_for_each_message_over_a_restart(tmp_path: Path) -> None:
    """Twice deferred, then accepted, also if the sandbox was restarted in between; another message counts anew."""
    async with exchanging(tmp_path) as mail:
        assert await mail.send("defer+2x@x.example") == 451
        assert await mail.send("greylist+1x@x.example") == 450
    async with exchanging(tmp_path) as mail:
        assert await mail.send("defer+2x@x.example") == 451
        assert await mail.send("defer+2x@x.example") == 250
        assert await mail.send("defer+2x@x.example") == 250
        assert await mail.send("defer+2x@x.example", content=MAIL.replace(b"<1@", b"<2@")) == 451
        assert await mail.send("greylist+1x@x.example") == 250
    assert len(deliveries(tmp_path)) == 3


async def test_a_message_over_the_limit_is_refused_and_the_session_goes_on(tmp_path: Path) -> None:
    """By the size it declares at once, by its octets at the end of the data."""
    async with exchanging(tmp_path, size_limit_bytes=100_000) as mail:

        def dialogue(client: smtplib.SMTP) -> list[int]:
            client.ehlo()
            declared = client.mail("a@demo.example", ["SIZE=100001"])[0]
            client.mail("a@demo.example")
            client.rcpt("b@x.example")
            sent = client.data(b"x" * 98 + b"\r\n" + b"y" * 300_000 + b"\r\n")[0]
            client.mail("a@demo.example")
            client.rcpt("b@x.example")
            return [declared, sent, client.data(MAIL)[0]]

        assert await mail.run(dialogue) == [552, 552, 250]
    assert len(deliveries(tmp_path)) == 1


async def test_commands_in_one_packet_are_answered_in_order(tmp_path: Path) -> None:
    """Pipelined commands and data, then nonsense, a bare LF and a second STARTTLS sent ahead of its time."""
    packet = (
        b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@x.example> NOTIFY=NEVER\r\nRCPT TO:<bounce@x.example>\r\nDATA\r\n"
        b".\r\nNONSENSE\r\nNOOP\nRCPT TO:<b@x.example>\r\nMAIL FROM:<a@x.example> FOO=1\r\nSTARTTLS\r\nNOOP\r\n"
    )
    async with exchanging(tmp_path) as mail:
        reader, writer = await asyncio.open_connection(LOOPBACK, mail.port)
        writer.write(packet)
        told = await asyncio.wait_for(reader.read(), 30)
        writer.close()
    codes = [line[:3] for line in told.decode().splitlines() if line[3] == " "]
    assert codes == ["220", "250", "250", "250", "550", "354", "250", "500", "500", "503", "555", "503"]
    (delivery,) = deliveries(tmp_path)
    assert (delivery.size, delivery.sender, delivery.parameters) == (0, "", ("", "NOTIFY=NEVER"))


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """The fault says which port is taken and which setting chooses another."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"{port}.*POSTLANE_SANDBOX_MX_LISTEN"):
            await Exchanger(SandboxSettings(directory=tmp_path)).start(LOOPBACK, port)
        with pytest.raises(CannotListen, match=f"{port}.*POSTLANE_SANDBOX_DNS_LISTEN"):
            await NameServer(tmp_path, 1, 5).start(LOOPBACK, port)
