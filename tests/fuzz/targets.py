"""What a fuzzer feeds: each target takes any octets and asserts what must hold for all of them.

`benchmarks/fuzz_parsers.py` drives them guided by coverage; `test_corpus.py` replays the kept cases.
"""

import contextlib
import datetime
import re
from collections.abc import Callable

from services.ingress.core import commands, content, markup, repeats, sasl, spam
from services.ingress.core.content import ContentLimits
from services.ingress.core.headers import parse_fields, split_header
from services.ingress.core.mailbox import parse_mailbox
from services.ingress.core.mime import MimeLimits
from services.ingress.core.proxy import Proxied, read_header
from services.ingress.core.received import Trace
from services.ingress.core.refusal import Refusal
from services.ingress.core.texts import texts
from services.ingress.core.transparency import DataDecoder
from services.verifier.core import dkim_record, spf_record
from shared.contract.envelope import Undecodable, unpack
from shared.contract.subjects import Place, parse_place, token
from shared.mail.address import Address, parse_address
from shared.mail.reply import Reply

AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LIMITS = ContentLimits(header_bytes=4096, header_lines=100, mime=MimeLimits(4, 10, 1024, 50))
TRACE = Trace("mail.test", "client.example", "192.0.2.1", "TLSv1.3 TLS_AES_128_GCM_SHA256", "alice")
CLIENT_CANNOT_SPLIT = re.compile(r"[2345]\d\d [\x20-\x7e]{0,500}")
DATA_LIMIT = 600


def said(answer: Reply) -> None:
    """Whatever was quoted, a reply is one line of printable ASCII within the bounds (RFC 5321 §4.5.3.1.5)."""
    assert CLIENT_CANNOT_SPLIT.fullmatch(str(answer)), str(answer)


def command_arguments(octets: bytes) -> None:
    """MAIL and RCPT: what is accepted has no control characters and keeps the address as written."""
    argument = octets.decode("utf-8", "ignore")
    mail = commands.parse_mail(argument)
    rcpt = commands.parse_rcpt(argument, smtputf8=len(argument) % 2 == 0)
    for parsed in (mail, rcpt):
        if isinstance(parsed, Reply):
            said(parsed)
        elif parsed.address is not None:
            assert parsed.address.written in argument
            assert not re.search(r"[\x00-\x1f\x7f]", parsed.address.written)


def addresses(octets: bytes) -> None:
    """Addresses and mailboxes: an address that was read is read the same again; its domain is comparable."""
    text = octets.decode("utf-8", "ignore")
    for parsed in (parse_address(text), parse_mailbox(text)):
        if isinstance(parsed, Address):
            assert parse_address(parsed.written) == parsed
            assert parsed.domain == parsed.domain.lower()
            assert parsed.domain.isascii()
            assert "." in parsed.domain


def data(octets: bytes) -> None:
    """Find the end of DATA however its octets were cut, and take nothing behind it for content."""
    whole, pieces = DataDecoder(DATA_LIMIT), DataDecoder(DATA_LIMIT)
    rest = whole.feed(octets)
    cut = None
    for index in range(len(octets)):
        cut = pieces.feed(octets[index : index + 1])
        if cut is not None:
            cut += octets[index + 1 :]
            break
    assert rest == cut
    if rest is None:
        return
    assert octets.endswith(rest)
    assert bool(whole.trouble) == bool(pieces.trouble)
    if not whole.trouble:
        message = whole.message()
        assert message == pieces.message()
        assert len(message) <= DATA_LIMIT
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
        again = DataDecoder(DATA_LIMIT)
        assert again.feed(stuffed + b".\r\n") == b""
        assert again.message() == message


def message(octets: bytes) -> None:
    """Judge a whole message: refused in one line, or stored with strict line ends and one From, in the domain."""
    parsed = content.parse(octets, LIMITS, "mail.test")
    if isinstance(parsed, Refusal):
        said(parsed.reply)
        return
    domain = parsed.author.domain
    refusal = content.check(parsed, domain, attachments_allowed=False, smtputf8=True, limits=LIMITS)
    for part in texts(parsed.fields, parsed.body, LIMITS.mime):
        assert part.kind in ("text/plain", "text/html")
    if repeats.claims("content", parsed.named):
        claimed = repeats.claim(repeats.Submitted("c", "u", "", ("b@y.example",), parsed.fields, parsed.body))
        assert isinstance(claimed, Refusal) or len(claimed.key) == 64
    if refusal is not None:
        said(refusal.reply)
        return
    stored = content.finish(parsed, domain, TRACE, "QUEUEID", AT, smtputf8=True).octets
    assert stored.count(b"\r\n") == stored.count(b"\r") == stored.count(b"\n")
    assert stored.endswith(parsed.body)
    head = split_header(stored, 10_000)
    assert isinstance(head, tuple)
    fields = parse_fields(head[0], 200)
    assert isinstance(fields, list)
    names = [field.name for field in fields]
    assert names.count("from") == names.count("date") == names.count("message-id") == 1
    assert not {"bcc", "return-path", repeats.HEADER} & set(names)


def login(octets: bytes) -> None:
    """SASL: what can be used is not empty, and never names another identity."""
    decoded = sasl.decode(octets)
    if decoded is not None:
        attempt = sasl.plain(decoded)
        assert not attempt.usable or (attempt.username and attempt.password)
    sasl.login(octets[: len(octets) // 2], octets[len(octets) // 2 :])


def balancer(octets: bytes) -> None:
    """PROXY headers: a header is read from its own octets only, however many of them are there."""
    whole = read_header(octets)
    if isinstance(whole, Proxied):
        assert read_header(octets[: whole.length]) == whole
        assert read_header(octets[: whole.length - 1]) == "incomplete"


def html(octets: bytes) -> None:
    """HTML: whatever soup it is, a few flaws, each on a line that exists."""
    text = octets.decode("utf-8", "ignore")
    found = markup.flaws(text, 5)
    assert len(found) <= 5
    assert all(0 <= flaw.line <= len(text) + 1 for flaw in found)


def dns(octets: bytes) -> None:
    """Read published records, or say in a sentence why not."""
    text = octets.decode("utf-8", "ignore")
    for parsed in (spf_record.parse(text), dkim_record.parse(text)):
        assert parsed is not None
    spf_record.is_spf(text)


def bus(octets: bytes) -> None:
    """Read what comes from the bus: carriages, subjects, a filter's answer; tokens are always safe in a subject."""
    with contextlib.suppress(Undecodable):
        unpack(octets)
    text = octets.decode("utf-8", "ignore")
    place = parse_place(text)
    assert place is None or isinstance(place, Place)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token(text))
    spam.read(octets)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (command_arguments, addresses, data, message, login, balancer, html, dns, bus)
}
