"""One attempt against exchangers that misbehave: every case ends in the right value, and nothing goes astray."""

import asyncio
import datetime
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.delivery import courier, encryption
from services.delivery.core import outcome
from services.delivery.core.outcome import Bounced, Deferred, Delivered, Outcome
from services.delivery.courier import Courier
from services.delivery.dispatch import Attempted, Dispatch
from services.delivery.exchangers import Exchangers
from services.delivery.parcel import Parcel
from shared.contract.envelope import Envelope, Recipient
from shared.contract.events import ExchangerTried
from tests.delivery.exchanger import Action, Exchanger
from tests.delivery.house import delivery_settings
from tests.dns_server import DnsServer

MAIL = b"From: a@d.example\r\nSubject: x\r\n\r\nhello\r\n.dot\r\n..two\r\nend\r\n"
OK = b"250 2.0.0 ok\r\n"
PATIENT = {"command_timeout_seconds": 30.0, "final_reply_timeout_seconds": 30.0}
QUICK = {"command_timeout_seconds": 2.0, "final_reply_timeout_seconds": 2.0}
"""For servers that say nothing; on a busy machine one that answers may be taken for one of them."""


class Field:
    """A dispatch between scripted DNS and scripted exchangers."""

    def __init__(self, dns: DnsServer, directory: Path, port: int, **settings: Any) -> None:
        self.dns = dns
        values = {"resolvers": (dns.where,), "mx_port": port, **settings}
        made = delivery_settings(directory, **values)
        self.courier = Courier(made)
        self.dispatch = Dispatch(made, Exchangers(made), self.courier)

    async def send(
        self,
        *addresses: str | Recipient,
        mail: bytes = MAIL,
        may_finish: bool = True,
        before_dot: Callable[[], Awaitable[object]] | None = None,
        pool: str = "",
        **envelope: Any,
    ) -> Attempted:
        """Attempt all recipients."""
        recipients = [
            a if isinstance(a, Recipient) else Recipient(number=n, address=a) for n, a in enumerate(addresses, 1)
        ]
        values: dict[str, Any] = {
            "queue_id": "0" * 30, "instance": "i", "configuration": "c", "domain": "d.example",
            "lane": "transactional", "sender": "a@d.example", "recipients": tuple(recipients),
            "received_at": datetime.datetime.now(datetime.UTC), "expires_at": None, "size": len(mail), "sha256": "",
        }  # fmt: skip
        parcel = Parcel(envelope=Envelope(**(values | envelope)), mail=mail, pool=pool)

        async def asked() -> bool:
            if before_dot is not None:
                await before_dot()
            return may_finish

        return await self.dispatch.attempt(parcel, recipients, asked)


@asynccontextmanager
async def field(directory: Path, exchanger: Exchanger, **settings: Any) -> AsyncIterator[Field]:
    """Make a field in which `rcpt.test` leads to an exchanger."""
    async with exchanger, DnsServer() as dns:
        dns.set("rcpt.test", "MX", "10 mx.rcpt.test.")
        dns.set("mx.rcpt.test", "A", "127.0.0.1")
        made = Field(dns, directory, exchanger.port, **{**PATIENT, **settings})
        yield made
        made.courier.close()


def only(attempted: Attempted) -> Outcome:
    """Return the outcome of the one recipient."""
    (result,) = attempted.outcomes.values()
    return result


# Each case: script, the class of the outcome, its enhanced code, whether it is ambiguous.
LONG = b"250-" + b"x" * 5000 + b"\r\n"
CASES: dict[str, tuple[dict[str, list[tuple[Action, ...]]], type, str, bool]] = {
    "250 then drop": ({"FINAL": [(OK, None)]}, Delivered, "2.0.0", False),
    "drop after the dot": ({"FINAL": [(None,)]}, Deferred, "4.4.2", True),
    "silence after the dot": ({"FINAL": [(20.0, OK)]}, Deferred, "4.4.2", True),
    "250 byte by byte": (
        {"FINAL": [(b"2", 0.01, b"5", 0.01, b"0", 0.01, b" ", 0.01, b"ok\r", 0.01, b"\n")]},
        Delivered, "2.0.0", False,
    ),
    "endless continuation": ({"FINAL": [(b"250-more\r\n", 0.05) * 100]}, Deferred, "4.4.2", True),
    "huge reply": ({"FINAL": [(LONG * 8,)]}, Deferred, "4.5.0", True),
    "controls in the text": ({"FINAL": [(b"250 2.0.0 a\x00b\x1b[31m\xff c\r\n",)]}, Delivered, "2.0.0", False),
    "25O": ({"FINAL": [(b"25O ok\r\n",)]}, Deferred, "4.5.0", True),
    "999": ({"FINAL": [(b"999 what\r\n",)]}, Deferred, "4.5.0", True),
    "221 to the dot": ({"FINAL": [(b"221 bye\r\n",)]}, Deferred, "4.5.0", True),
    "452 to the dot": ({"FINAL": [(b"452 4.3.1 full\r\n",)]}, Deferred, "4.3.1", False),
    "554 to the dot": ({"FINAL": [(b"554 5.6.0 bad\r\n",)]}, Bounced, "5.6.0", False),
    "421 to the dot": ({"FINAL": [(b"421 4.3.2 closing\r\n", None)]}, Deferred, "4.3.2", False),
    "354 to RCPT": ({"RCPT": [(b"354 go\r\n",)]}, Deferred, "4.5.0", False),
    "250 to DATA": ({"DATA": [(OK,)]}, Deferred, "4.5.0", False),
    "drop at DATA": ({"DATA": [(None,)]}, Deferred, "4.4.2", False),
    "421 at DATA": ({"DATA": [(b"421 4.7.0 later\r\n", None)]}, Deferred, "4.7.0", False),
    "554 at DATA": ({"DATA": [(b"554 5.7.1 no\r\n",)]}, Bounced, "5.7.1", False),
    "550 at MAIL": ({"MAIL": [(b"550 5.7.1 no\r\n",)]}, Bounced, "5.7.1", False),
    "451 at MAIL": ({"MAIL": [(b"451 4.7.1 later\r\n",)]}, Deferred, "4.7.1", False),
    "drop at MAIL": ({"MAIL": [(None,)]}, Deferred, "4.4.2", False),
    "drop at RCPT": ({"RCPT": [(None,)]}, Deferred, "4.4.2", False),
    "no greeting": ({"GREETING": [(20.0,)]}, Deferred, "4.4.2", False),
    "554 greeting": ({"GREETING": [(b"554 go away\r\n",)]}, Deferred, "4.3.2", False),
    "421 greeting": ({"GREETING": [(b"421 4.3.2 busy\r\n",)]}, Deferred, "4.3.2", False),
    "garbage greeting": ({"GREETING": [(b"SSH-2.0-x\r\n",)]}, Deferred, "4.5.0", False),
    "drop in the greeting": ({"GREETING": [(None,)]}, Deferred, "4.4.2", False),
    "EHLO unknown, HELO known": ({"EHLO": [(b"502 5.5.1 what\r\n",)]}, Delivered, "2.0.0", False),
    "a code alone": ({"FINAL": [(b"250\r\n",)]}, Delivered, "2.0.0", False),
    "lines without CR": ({"FINAL": [(b"250-stored\n250 2.0.0 ok\n",)]}, Delivered, "2.0.0", False),
    "three lines": ({"RCPT": [(b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n",)]}, Bounced, "5.1.1", False),
    "first yes, then no": ({"FINAL": [(b"250-ok\r\n550 5.7.1 no\r\n",)]}, Deferred, "4.5.0", True),
    "first no, then yes": ({"FINAL": [(b"550-5.7.1 no\r\n", 0.05, b"250 ok\r\n")]}, Deferred, "4.5.0", True),
    "two codes at RCPT": ({"RCPT": [(b"450-busy\r\n550 5.1.1 no\r\n",)]}, Deferred, "4.5.0", False),
    "two codes in the greeting": ({"GREETING": [(b"220-mx\r\n554 no\r\n",)]}, Deferred, "4.5.0", False),
    "four digits": ({"FINAL": [(b"2500 ok\r\n",)]}, Deferred, "4.5.0", True),
    "no blank": ({"RCPT": [(b"550no\r\n",)]}, Deferred, "4.5.0", False),
    "252 to RCPT": ({"RCPT": [(b"252 2.5.2 will try\r\n",)]}, Delivered, "2.0.0", False),
    "421 at EHLO": ({"EHLO": [(b"421 4.3.2 closing\r\n", None)]}, Deferred, "4.3.2", False),
    "421 at MAIL": ({"MAIL": [(b"421 4.7.0 later\r\n", None)]}, Deferred, "4.7.0", False),
    "421 at RCPT": ({"RCPT": [(b"421 4.7.0 later\r\n", None)]}, Deferred, "4.7.0", False),
    "neither EHLO nor HELO": (
        {"EHLO": [(b"500 what\r\n",)], "HELO": [(b"550 5.7.1 no\r\n",)]}, Deferred, "4.7.1", False,
    ),
    "unsolicited line before RCPT": (
        {"MAIL": [(b"250 ok\r\n250 2.1.5 forged\r\n",)], "RCPT": [(b"550 5.1.1 no\r\n",)]}, Bounced, "5.1.1", False,
    ),
}  # fmt: skip


SILENT = {"silence after the dot", "no greeting", "endless continuation"}


@pytest.mark.parametrize("case", CASES)
async def test_replies(case: str, tmp_path: Path) -> None:
    """Each kind of reply, silence or cut leads to its outcome; only after the dot can it be ambiguous."""
    script, kind, enhanced, ambiguous = CASES[case]
    exchanger = Exchanger()
    exchanger.script = {verb: list(uses) for verb, uses in script.items()}
    async with field(tmp_path, await exchanger.start(), **(QUICK if case in SILENT else {})) as made:
        attempted = await made.send("x@rcpt.test")
    result = only(attempted)
    assert isinstance(result, kind)
    assert result.diagnosis.enhanced == enhanced
    assert getattr(result, "ambiguous", False) is ambiguous
    assert all(c >= " " for c in result.diagnosis.text)
    assert attempted.tried[0].address == "127.0.0.1"


async def test_mail_arrives_octet_for_octet(tmp_path: Path) -> None:
    """Dot lines, a large body and 8-bit octets arrive as they were given."""
    mail = MAIL + b"".join(b".%d\r\n\xff\x00\r\n" % n for n in range(50_000))
    async with field(tmp_path, await Exchanger().start()) as made:
        exchanger_result = await made.send("x@rcpt.test", mail=mail, eight_bit=True)
        assert isinstance(only(exchanger_result), Delivered)
    assert exchanger_result.dots == 1


async def test_octets(tmp_path: Path) -> None:
    """What the server stores is what was signed."""
    exchanger = await Exchanger().start()
    mail = b".first\r\n" + MAIL + b".\r\n\xe4\r\n" * 2000
    async with field(tmp_path, exchanger) as made:
        await made.send("x@rcpt.test", mail=mail)
    assert exchanger.received[0].data == mail


async def test_stray_line_ends_are_never_sent(tmp_path: Path) -> None:
    """A mail with a bare LF or CR would let another mail be smuggled in: it bounces without a connection."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        for bad in (b"a\n.\nMAIL FROM:<x@y>\r\n", b"a\r.\rb\r\n"):
            result = only(await made.send("x@rcpt.test", mail=MAIL + bad))
            assert isinstance(result, Bounced)
            assert result.diagnosis.enhanced == "5.6.0"
    assert exchanger.connections == 0


async def test_hold_lost_stops_before_the_dot(tmp_path: Path) -> None:
    """Without a certain hold the dot is not sent and the server stores nothing."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test", may_finish=False)
    assert isinstance(only(attempted), Deferred)
    assert attempted.dots == 0
    assert exchanger.seen == []


@pytest.mark.parametrize("words", [b"", b"421 4.3.2 closing\r\n"])
async def test_cut_before_the_dot_is_not_ambiguous(words: bytes, tmp_path: Path) -> None:
    """A server that goes away while the dot is announced has no message: the next exchanger gets it, unmarked."""
    worst = await Exchanger().start("127.0.0.2", 0)
    best = await Exchanger().start("127.0.0.4", worst.port)

    async def cut() -> None:
        if worst.connections and not best.connections:
            await worst.disturb(words)
            await worst.disturb(None)

    async with worst, field(tmp_path, best) as made:
        made.dns.set("rcpt.test", "MX", "10 worst.rcpt.test.", "20 best.rcpt.test.")
        made.dns.set("worst.rcpt.test", "A", "127.0.0.2")
        made.dns.set("best.rcpt.test", "A", "127.0.0.4")
        attempted = await made.send("x@rcpt.test", before_dot=cut)
    assert isinstance(only(attempted), Delivered)
    assert attempted.dots == 1
    assert [(tried.phase, tried.host) for tried in attempted.tried] == [
        ("data", "worst.rcpt.test"),
        ("final", "best.rcpt.test"),
    ]


async def test_recipients_share_a_transaction(tmp_path: Path) -> None:
    """Recipients at domains with the same exchangers go in one transaction, refusals stay with their recipient."""
    exchanger = await Exchanger().start()
    exchanger.by_recipient = {"b@rcpt.test": [(b"450 4.2.1 later\r\n",)], "c@two.test": [(b"550 5.1.1 no\r\n",)]}
    async with field(tmp_path, exchanger) as made:
        made.dns.set("two.test", "MX", "5 mx.rcpt.test.")
        attempted = await made.send("a@rcpt.test", "b@rcpt.test", "c@two.test", "d@two.test")
    assert exchanger.connections == 1
    assert exchanger.received[0].recipients == ["a@rcpt.test", "d@two.test"]
    kinds = [type(attempted.outcomes[n]) for n in (1, 2, 3, 4)]
    assert kinds == [Delivered, Deferred, Bounced, Delivered]


async def test_421_between_recipients(tmp_path: Path) -> None:
    """After a 421 in the middle of RCPT nobody is bounced and nothing is sent."""
    exchanger = await Exchanger().start()
    exchanger.script["RCPT"] = [(OK,), (b"421 4.7.0 enough\r\n", None)]
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("a@rcpt.test", "b@rcpt.test", "c@rcpt.test")
    assert {type(o) for o in attempted.outcomes.values()} == {Deferred}
    assert exchanger.seen == []


async def test_no_body_without_recipients(tmp_path: Path) -> None:
    """When every recipient is refused, DATA is not even asked for."""
    exchanger = await Exchanger().start()
    exchanger.script["RCPT"] = [(b"550 5.1.1 no\r\n",)]
    async with field(tmp_path, exchanger) as made:
        await made.send("a@rcpt.test", "b@rcpt.test")
    assert exchanger.uses(b"DATA") == []


async def test_more_than_one_transaction_holds(tmp_path: Path) -> None:
    """Two hundred and fifty recipients at one exchanger go in transactions of at most a hundred."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send(*(f"u{n}@rcpt.test" for n in range(250)))
    assert [len(m.recipients) for m in exchanger.received] == [100, 100, 50]
    assert {type(o) for o in attempted.outcomes.values()} == {Delivered}
    assert len(attempted.outcomes) == 250


@pytest.mark.parametrize("words", [b"452 4.5.3 too many recipients\r\n", b"452 too many recipients\r\n"])
async def test_server_takes_few_recipients_at_a_time(words: bytes, tmp_path: Path) -> None:
    """Recipients a server has no room for in one transaction go in the next one, without waiting."""
    exchanger = await Exchanger().start()
    full = (words,)
    exchanger.script["RCPT"] = [(OK,), (OK,), full, full, (OK,), (OK,)]
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send(*(f"u{n}@rcpt.test" for n in range(4)))
    assert [len(m.recipients) for m in exchanger.received] == [2, 2]
    assert {type(o) for o in attempted.outcomes.values()} == {Delivered}


async def test_next_exchanger(tmp_path: Path) -> None:
    """A dead, a refusing and an internal exchanger are passed over for the one that works, in order of preference."""
    worst = await Exchanger().start("127.0.0.2", 0)
    best = await Exchanger().start("127.0.0.4", worst.port)
    worst.script["GREETING"] = [(b"554 no service here\r\n",)]
    async with worst, field(tmp_path, best) as made:
        made.dns.set("rcpt.test", "MX", "10 dead.rcpt.test.", "20 refusing.rcpt.test.", "30 inside.rcpt.test.",
                     "40 lost.rcpt.test.", "50 good.rcpt.test.")  # fmt: skip
        made.dns.set("dead.rcpt.test", "A", "127.0.0.3")
        made.dns.set("refusing.rcpt.test", "A", "127.0.0.2")
        made.dns.set("inside.rcpt.test", "A", "10.255.255.1", "169.254.169.254")
        made.dns.set("good.rcpt.test", "A", "127.0.0.4")
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert [tried.host.split(".")[0] for tried in attempted.tried] == ["dead", "refusing", "good"]


async def test_internal_addresses_are_never_contacted(tmp_path: Path) -> None:
    """An exchanger whose only addresses are not public gets no packet, and the recipient bounces."""
    tap = await Exchanger().start("127.0.0.1")
    async with field(tmp_path, tap, allowed_networks=()) as made:
        result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.4.4"
    assert tap.connections == 0


@pytest.mark.parametrize(
    ("fault", "kind", "enhanced"),
    [("SERVFAIL", Deferred, "4.4.3"), ("TIMEOUT", Deferred, "4.4.3"), ("REFUSED", Deferred, "4.4.3"),
     ("NXDOMAIN", Bounced, "5.1.2"), ("GARBAGE", Deferred, "4.4.3"), ("LAME", Deferred, "4.4.3")],
)  # fmt: skip
async def test_dns_faults(fault: Any, kind: type, enhanced: str, tmp_path: Path) -> None:
    """Only NXDOMAIN is permanent; everything else about the DNS is not knowing."""
    silent = fault in ("TIMEOUT", "GARBAGE")
    async with field(tmp_path, await Exchanger().start(), dns_timeout_seconds=1.0 if silent else 10.0) as made:
        made.dns.fail("rcpt.test", fault)
        result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, kind)
    assert result.diagnosis.enhanced == enhanced


async def test_dns_shapes(tmp_path: Path) -> None:
    """Implicit MX, a CNAME at the exchanger, a CNAME at the domain and a null MX."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        made.dns.set("implicit.test", "A", "127.0.0.1")
        made.dns.set("alias.test", "MX", "10 name.alias.test.")
        made.dns.set("name.alias.test", "CNAME", "mx.rcpt.test.")
        made.dns.set("moved.test", "CNAME", "rcpt.test.")
        made.dns.set("null.test", "MX", "0 .")
        attempted = await made.send("a@implicit.test", "b@alias.test", "c@moved.test", "d@null.test")
    assert [type(attempted.outcomes[n]) for n in (1, 2, 3, 4)] == [Delivered, Delivered, Delivered, Bounced]
    assert attempted.outcomes[4].diagnosis.enhanced == "5.1.10"


async def test_size_is_known_before_data(tmp_path: Path) -> None:
    """A message above the server's SIZE bounces without MAIL; below it SIZE is declared."""
    exchanger = await Exchanger(extensions=("SIZE 1000", "8BITMIME")).start()
    async with field(tmp_path, exchanger) as made:
        result = only(await made.send("x@rcpt.test", mail=MAIL + b"x" * 900 + b"\r\n" + b"y" * 90 + b"\r\n"))
        assert exchanger.uses(b"MAIL") == []
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.3.4"
    assert exchanger.uses(b"MAIL") == [b"MAIL FROM:<a@d.example> SIZE=%d" % len(MAIL)]


async def test_capabilities(tmp_path: Path) -> None:
    """8-bit and internationalised mail is declared where offered and bounced where not; domains become A-labels."""
    plain, able = await Exchanger(extensions=()).start(), await Exchanger(extensions=("8BITMIME", "SMTPUTF8")).start()
    async with field(tmp_path, plain) as made:
        eight = only(await made.send("x@rcpt.test", eight_bit=True))
        utf8 = only(await made.send("\u00fc@rcpt.test"))
        made.dns.set("xn--bcher-kva.test", "MX", "10 mx.rcpt.test.")
        domain = only(await made.send("x@b\u00fccher.test"))
    async with field(tmp_path, able) as made:
        await made.send("\u00fc@rcpt.test", eight_bit=True)
    assert (eight.diagnosis.enhanced, utf8.diagnosis.enhanced) == ("5.6.3", "5.6.7")
    assert isinstance(domain, Delivered)
    assert plain.uses(b"RCPT") == [b"RCPT TO:<x@xn--bcher-kva.test>"]
    assert able.uses(b"MAIL") == [b"MAIL FROM:<a@d.example> BODY=8BITMIME SMTPUTF8"]
    assert able.uses(b"RCPT") == ["RCPT TO:<\u00fc@rcpt.test>".encode()]


async def test_dsn_parameters_are_passed_on(tmp_path: Path) -> None:
    """NOTIFY, ORCPT, RET and ENVID go to a server that offers DSN and to no other."""
    knows, does_not = await Exchanger(extensions=("DSN",)).start(), await Exchanger(extensions=()).start()
    recipient = Recipient(number=1, address="x@rcpt.test", notify="FAILURE", orcpt="rfc822;o@d.example")
    beyond = Recipient(number=2, address="y@rcpt.test", orcpt="utf-8;\u00fc+2Bo@d.example")
    for exchanger in (knows, does_not):
        async with field(tmp_path, exchanger) as made:
            await made.send(recipient, beyond, ret="HDRS", envid="E1")
    assert knows.uses(b"MAIL") == [b"MAIL FROM:<a@d.example> RET=HDRS ENVID=E1"]
    assert knows.uses(b"RCPT") == [
        b"RCPT TO:<x@rcpt.test> NOTIFY=FAILURE ORCPT=rfc822;o@d.example",
        b"RCPT TO:<y@rcpt.test> ORCPT=utf-8;\\x{FC}+2Bo@d.example",
    ]
    assert does_not.uses(b"RCPT") == [b"RCPT TO:<x@rcpt.test>", b"RCPT TO:<y@rcpt.test>"]


@pytest.mark.parametrize("address", ['"a b"@rcpt.test', '"a@b"@rcpt.test', "x%evil@rcpt.test", "a!b@rcpt.test"])
async def test_local_parts_are_opaque(address: str, tmp_path: Path) -> None:
    """Quoted and odd local parts reach RCPT as they were written."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        await made.send(address)
    assert exchanger.uses(b"RCPT") == [b"RCPT TO:<" + address.encode() + b">"]


def server_context(
    directory: Path, *, old: bool = False, expired: bool = False, dns_id: str = "mx.rcpt.test"
) -> ssl.SSLContext:
    """Return a server's TLS context with a self-signed certificate; an old one knows nothing after TLS 1.0."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.rcpt.test")])
    now = datetime.datetime.now(datetime.UTC)
    ends = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(dns_id) if dns_id else x509.RFC822Name("a@rcpt.test")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = directory / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if old:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize("kind", ["self-signed", "expired", "old"])
async def test_bad_certificates_are_tolerated(kind: str, tmp_path: Path) -> None:
    """An exchanger with a certificate nobody can verify is still spoken to over TLS, and that is recorded."""
    context = server_context(tmp_path, old=kind == "old", expired=kind == "expired")
    exchanger = await Exchanger(tls=context).start()
    async with field(tmp_path, exchanger) as made:
        first = await made.send("x@rcpt.test")
        connections = exchanger.connections
        made.courier.close()  # else the open connection would be used
        second = await made.send("x@rcpt.test")
    assert isinstance(only(first), Delivered)
    assert isinstance(only(second), Delivered)
    assert all(message.tls for message in exchanger.received)
    assert first.tried[0].tls.startswith("TLSv1 " if kind == "old" else "TLSv1.3 ")
    assert not first.tried[0].tls_verified
    assert exchanger.connections == connections + 1  # remembered: no second try to verify


async def test_verified_certificate_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that verifies for the exchanger's name is recorded as verified."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test")
    assert attempted.tried[0].tls_verified
    assert exchanger.connections == 1


@pytest.mark.parametrize(("dns_id", "verified"), [("*.rcpt.test", True), ("*.test", False), ("", False)])
async def test_names_of_certificates(
    dns_id: str, verified: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wildcard stands for one label, and a common name is no name (RFC 6125): all have the right one here."""
    exchanger = await Exchanger(tls=server_context(tmp_path, dns_id=dns_id)).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test")
    assert attempted.tried[0].tls_verified is verified
    assert exchanger.received[0].tls


@pytest.mark.parametrize("reply", [b"454 4.7.0 not now\r\n", b"220 go\r\nnot tls at all\r\n"])
async def test_clear_only_if_tls_cannot_be_had(reply: bytes, tmp_path: Path) -> None:
    """A STARTTLS that is refused or broken leads to delivery in clear, over a new connection."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    exchanger.script["STARTTLS"] = [(reply, None)]
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert attempted.tried[0].tls == ""


async def test_a_host_whose_memory_is_gone_is_still_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server so slow to greet that what was learnt of its TLS is forgotten meanwhile is not tried in circles."""
    monkeypatch.setattr(encryption, "BROKEN_SECONDS", 0.0)
    monkeypatch.setattr(encryption, "UNVERIFIED_SECONDS", 0.0)
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    exchanger.script["STARTTLS"] = [(b"220 go\r\nnot tls at all\r\n", None)]
    async with field(tmp_path, exchanger, attempt_timeout_seconds=60.0) as made:
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert (exchanger.connections, exchanger.received[0].tls) == (3, False)
    assert "STARTTLS failed" in attempted.tried[0].tls_problem


@pytest.mark.parametrize(
    ("answer", "says_little"),
    [((None,), True), ((b"\x15\x03\x01\x00\x02\x02\x46", None), False), ((60.0,), False)],
    ids=["cut", "alert", "silence"],
)
async def test_a_handshake_that_is_cut_says_little(
    answer: tuple[Action, ...], says_little: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next connection is spoken to tolerantly, but after a minute all is as before.

    An alert counts for an hour, and so does silence, which costs a connection as long as a command may take.
    """
    monkeypatch.setattr(encryption, "BROKEN_SECONDS", 0.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    exchanger.script["STARTTLS"] = [(b"220 go\r\n", "hear", *answer)]
    async with field(tmp_path, exchanger, **QUICK) as made:
        learnt = made.courier.encryption

        def well_again(host: str, why: str, remember: Callable[[str, str], None]) -> None:
            exchanger.script.clear()
            remember(host, why)

        for name in ("interrupted", "unverifiable"):
            monkeypatch.setattr(learnt, name, partial(well_again, remember=getattr(learnt, name)))
        tried: list[ExchangerTried] = []
        for _ in range(2):
            tried += (await made.send("x@rcpt.test")).tried
            made.courier.pool.close()
    assert [message.tls for message in exchanger.received] == [True, True]
    assert [visit.tls_verified for visit in tried] == [False, says_little]
    assert tried[0].tls_problem.startswith("STARTTLS failed: ")  # though it is remembered no more


async def test_421_to_starttls_says_nothing_of_tls(tmp_path: Path) -> None:
    """A server that closes at STARTTLS is tried again later, and then over TLS: nothing went in clear meanwhile."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    exchanger.script["STARTTLS"] = [(b"421 4.3.2 closing\r\n", None)]
    async with field(tmp_path, exchanger) as made:
        result = only(await made.send("x@rcpt.test"))
        assert isinstance(result, Deferred)
        assert (result.diagnosis.code, result.diagnosis.phase, exchanger.uses(b"MAIL")) == (421, "starttls", [])
        del exchanger.script["STARTTLS"]
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert [message.tls for message in exchanger.received] == [True]


async def test_starttls_injection_is_discarded(tmp_path: Path) -> None:
    """A reply smuggled in clear behind the 220 is not taken for one that came over TLS."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    exchanger.script["STARTTLS"] = [(b"220 go\r\n250 forged\r\n", 0.2, None)]
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert [m.tls for m in exchanger.received] == [False]


async def test_slow_destination_does_not_hold_up_another(tmp_path: Path) -> None:
    """Of one message's destinations a silent one does not delay the other."""
    slow = await Exchanger().start("127.0.0.2", 0)
    fast = await Exchanger().start("127.0.0.1", slow.port)
    slow.script["GREETING"] = [(60.0,)]
    async with slow, field(tmp_path, fast) as made:
        made.dns.set("slow.test", "MX", "10 mx.slow.test.")
        made.dns.set("mx.slow.test", "A", "127.0.0.2")
        sending = asyncio.create_task(made.send("a@slow.test", "b@rcpt.test"))
        await fast.until(lambda: len(fast.received) == 1)
        assert not sending.done()
        await slow.disturb(None)
        attempted = await sending
    assert isinstance(attempted.outcomes[1], Deferred)


async def test_connections_are_reused(tmp_path: Path) -> None:
    """Messages to one exchanger share a connection up to its number of uses, and TLS stays recorded."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    async with field(tmp_path, exchanger, connection_messages=3) as made:
        attempts = [await made.send("x@rcpt.test") for _ in range(7)]
    assert all(attempt.tried[0].tls for attempt in attempts)
    assert exchanger.connections == 4  # one more for the certificate that could not be verified
    assert len(exchanger.received) == 7


@pytest.mark.parametrize("death", ["cut", "421", "chatter"])
async def test_dead_connection_is_replaced(death: str, tmp_path: Path) -> None:
    """A kept connection that has died, says 421 or has talked out of turn costs nothing: a new one is made."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        await made.send("x@rcpt.test")
        if death == "421":
            exchanger.script["MAIL"] = [(b"421 4.4.2 idle too long\r\n", None), (OK,)]
        else:
            await exchanger.disturb(None if death == "cut" else b"250 2.1.0 forged\r\n")
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert exchanger.connections == 2
    assert len(exchanger.received) == 2


@pytest.mark.parametrize("answer", [None, b"421 4.4.2 idle too long\r\n", b"450 4.7.0 enough in this session\r\n"])
async def test_dead_connection_and_a_recipient_that_does_not_suit(answer: Action, tmp_path: Path) -> None:
    """A recipient that this server cannot serve does not keep the others from a new connection."""
    exchanger = Exchanger(extensions=())
    async with field(tmp_path, await exchanger.start()) as made:
        await made.send("x@rcpt.test")
        exchanger.script["MAIL"] = [(answer,), (OK,)]
        attempted = await made.send("ü@rcpt.test", "y@rcpt.test")
    assert isinstance(attempted.outcomes[1], Bounced)
    assert isinstance(attempted.outcomes[2], Delivered)
    assert exchanger.connections == 2


async def test_enough_messages_in_a_session(tmp_path: Path) -> None:
    """A server that refuses the next sender for now is asked again on a connection of its own, and once only."""
    exchanger = Exchanger()
    exchanger.script["MAIL"] = [
        (OK,),
        (b"450 4.7.0 too many messages in this session\r\n",),
        (OK,),
        (b"450 4.7.0 no\r\n",),
    ]
    async with field(tmp_path, exchanger) as made:
        for expected, connections in ((Delivered, 1), (Delivered, 2), (Deferred, 3), (Deferred, 4)):
            attempted = await made.send("r@rcpt.test")
            assert isinstance(only(attempted), expected)
            assert exchanger.connections == connections
    assert len(exchanger.received) == 2


async def test_idle_connections_are_closed(tmp_path: Path) -> None:
    """A connection nobody needs is ended with QUIT."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger, connection_idle_seconds=0.05) as made:
        await made.send("x@rcpt.test")
        await exchanger.until(lambda: exchanger.uses(b"QUIT") != [])


@pytest.mark.parametrize(("kept", "connections"), [(0, 2), (1, 1)])
async def test_connections_kept_at_most(tmp_path: Path, kept: int, connections: int) -> None:
    """Where none may be kept, each message has a connection of its own; the control uses one again."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger, connections_kept=kept) as made:
        for _ in range(2):
            assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert exchanger.connections == connections


PIPELINED: dict[str, tuple[dict[str, list[tuple[Action, ...]]], list[type], int]] = {
    "all well": ({}, [Delivered, Delivered], 1),
    "one refused": ({"RCPT": [(b"550 5.1.1 no\r\n",), (OK,)]}, [Bounced, Delivered], 1),
    "all refused, DATA accepted anyway": ({"RCPT": [(b"550 5.1.1 no\r\n",)]}, [Bounced, Bounced], 0),
    "MAIL refused": (
        {"MAIL": [(b"550 5.7.1 no\r\n",)], "RCPT": [(b"503 5.5.1 MAIL first\r\n",)]}, [Bounced, Bounced], 0,
    ),
    "DATA refused": ({"DATA": [(b"451 4.3.0 later\r\n",)]}, [Deferred, Deferred], 0),
    "421 between": ({"RCPT": [(OK,), (b"421 4.7.0 enough\r\n", None)]}, [Deferred, Deferred], 0),
    "cut between": ({"RCPT": [(OK,), (None,)]}, [Deferred, Deferred], 0),
    "replies in pieces": ({"MAIL": [(b"250-a\r\n25", 0.05, b"0 b\r", 0.05, b"\n")]}, [Delivered, Delivered], 1),
}  # fmt: skip


@pytest.mark.parametrize("case", PIPELINED)
async def test_pipelining(case: str, tmp_path: Path) -> None:
    """Commands sent in one write get the same outcomes as one by one, and no body goes without a recipient."""
    script, kinds, stored = PIPELINED[case]
    exchanger = Exchanger(extensions=("PIPELINING", "8BITMIME"))
    exchanger.script = {verb: list(uses) for verb, uses in script.items()}
    async with field(tmp_path, await exchanger.start()) as made:
        attempted = await made.send("a@rcpt.test", "b@rcpt.test")
    assert [type(attempted.outcomes[n]) for n in (1, 2)] == kinds
    assert len(exchanger.seen) == stored


async def test_silent_destination_is_paused(tmp_path: Path) -> None:
    """After some unanswered attempts mail for a destination is deferred without a connection; others go on."""
    dead = await Exchanger().start("127.0.0.2", 0)
    alive = await Exchanger().start("127.0.0.1", dead.port)
    dead.script["GREETING"] = [(None,)]
    async with dead, field(tmp_path, alive, breaker_failures=3, breaker_pause_seconds=60.0) as made:
        made.dns.set("dead.test", "MX", "10 mx.dead.test.")
        made.dns.set("mx.dead.test", "A", "127.0.0.2")
        results = [only(await made.send("x@dead.test")) for _ in range(5)]
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert dead.connections == 3
    assert {type(result) for result in results} == {Deferred}
    assert "without being tried" in results[-1].diagnosis.text


async def test_family_falls_back(tmp_path: Path) -> None:
    """An exchanger that is dead over IPv6 is reached over IPv4, and the other way round."""
    four = await Exchanger().start("127.0.0.1", 0)
    six = await Exchanger().start("::1", 0)
    for exchanger in (four, six):
        async with field(tmp_path, exchanger, allowed_networks=("127.0.0.0/8", "::1")) as made:
            made.dns.set("mx.rcpt.test", "AAAA", "::1")
            attempted = await made.send("x@rcpt.test")
        assert isinstance(only(attempted), Delivered)
        assert attempted.tried[-1].address == exchanger.host


async def test_a_fault_of_ours_stays_with_its_destination(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An address no command can carry defers only its own destination; the others' deliveries are not forgotten."""
    exchanger = await Exchanger().start()
    async with field(tmp_path, exchanger) as made:
        made.dns.set("two.test", "MX", "10 mx.two.test.")
        made.dns.set("mx.two.test", "A", "127.0.0.1")
        odd = Recipient(number=2, address="y@two.test", notify="NEVER\r\nDATA")
        exchanger.extensions = ("DSN",)
        attempted = await made.send(Recipient(number=1, address="x@rcpt.test"), odd)
    assert isinstance(attempted.outcomes[1], Delivered)
    assert isinstance(attempted.outcomes[2], Deferred)
    assert attempted.outcomes[2].diagnosis.enhanced == "4.3.0"
    assert [message.recipients for message in exchanger.received] == [["x@rcpt.test"]]


async def test_a_fault_of_ours_forgets_no_delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the transaction it is in; who got the mail by one before it is not sent a second copy."""
    monkeypatch.setattr(courier, "RECIPIENTS_LIMIT", 1)
    exchanger = await Exchanger(extensions=("DSN",)).start()
    async with field(tmp_path, exchanger) as made:
        odd = Recipient(number=2, address="y@rcpt.test", notify="NEVER\r\nDATA")
        last = Recipient(number=3, address="z@rcpt.test")
        attempted = await made.send(Recipient(number=1, address="x@rcpt.test"), odd, last)
    assert [type(attempted.outcomes[n]) for n in (1, 2, 3)] == [Delivered, Deferred, Delivered]
    assert attempted.outcomes[2].diagnosis.enhanced == "4.3.0"
    assert attempted.dots == 2
    assert [message.recipients for message in exchanger.received] == [["x@rcpt.test"], ["z@rcpt.test"]]


async def test_a_fault_of_ours_after_the_dot_is_ambiguous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may have the message: that is recorded, and at most once is kept to."""

    def broken(*_: object, **__: object) -> Outcome:
        raise ValueError("a reply nobody can judge")

    exchanger = await Exchanger().start()
    exchanger.on_final = lambda _: monkeypatch.setattr(outcome, "from_reply", broken)
    async with field(tmp_path, exchanger) as made:
        attempted = await made.send("x@rcpt.test")
    result = only(attempted)
    assert isinstance(result, Deferred)
    assert result.ambiguous
    assert attempted.dots == 1


@pytest.mark.parametrize("reply", [b"451 4.3.0 not now\r\n", b"550 5.7.1 go away\r\n", b"what\r\n"])
async def test_a_refusal_over_tls_says_nothing_of_tls(reply: bytes, tmp_path: Path) -> None:
    """A server that answers over TLS, whatever it answers, can do TLS: its mail does not go in clear for that."""
    exchanger = await Exchanger(tls=server_context(tmp_path)).start()
    offer = (b"250-mx\r\n250 STARTTLS\r\n",)
    exchanger.script["EHLO"] = [offer, (reply,), (b"250 mx\r\n",)]
    exchanger.script["HELO"] = [(b"550 5.7.1 no\r\n",)]
    async with field(tmp_path, exchanger) as made:
        made.courier.encryption.unverifiable("mx.rcpt.test", "a test says so")
        result = only(await made.send("x@rcpt.test"))
        exchanger.script["EHLO"] = [offer, (b"250 mx\r\n",)]
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert isinstance(result, Deferred)
    assert result.diagnosis.phase == "ehlo"
    assert [message.tls for message in exchanger.received] == [True]


async def test_those_behind_a_failed_connection_wait_for_the_same_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipients of a second transaction that was not begun have failed like the first, also for the breaker."""
    monkeypatch.setattr(courier, "RECIPIENTS_LIMIT", 1)
    exchanger = await Exchanger().start()
    exchanger.script["GREETING"] = [(b"421 4.3.2 busy\r\n", None)]
    async with field(tmp_path, exchanger, breaker_failures=1, breaker_pause_seconds=60.0) as made:
        attempted = await made.send("x@rcpt.test", "y@rcpt.test")
        assert [attempted.outcomes[n].diagnosis.text for n in (1, 2)] == ["busy", "busy"]
        assert "its breaker is open" in only(await made.send("x@rcpt.test")).diagnosis.text


async def test_what_one_pool_has_earned_does_not_stop_another(tmp_path: Path) -> None:
    """A server that turns away one of our addresses may take mail from another; the pool's own mail waits."""
    exchanger = await Exchanger().start()
    exchanger.script["GREETING"] = [(b"421 4.7.0 192.0.2.2 is on a blocklist\r\n", None), (b"220 mx\r\n",)]
    pools = {"egress_addresses": ("127.0.0.2", "127.0.0.3"), "egress_pools": ("bulk=127.0.0.3",)}
    async with field(tmp_path, exchanger, breaker_failures=1, breaker_pause_seconds=60.0, **pools) as made:
        unknown = only(await made.send("x@rcpt.test", pool="none"))
        assert isinstance(unknown, Deferred)
        assert unknown.diagnosis.text == "the pool none has no address that reaches 127.0.0.1"
        assert isinstance(only(await made.send("x@rcpt.test", pool="bulk")), Deferred)
        assert "its breaker is open" in only(await made.send("x@rcpt.test", pool="bulk")).diagnosis.text
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
        assert "its breaker is open" in only(await made.send("x@rcpt.test", pool="bulk")).diagnosis.text
    assert exchanger.connections == 2
