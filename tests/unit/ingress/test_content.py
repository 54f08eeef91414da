"""Content: strict form, one author in the domain, no attachment in any disguise, the owed repairs and no others."""

import datetime
from email import message_from_bytes
from email.policy import default as modern

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingress.core import content
from services.ingress.core.attachment import Attachment, find_attachment
from services.ingress.core.content import ContentLimits, Parsed
from services.ingress.core.headers import Field, parse_fields, read_lines, split_header
from services.ingress.core.mailbox import parse_mailbox, read_words
from services.ingress.core.mime import MimeLimits, content_type
from services.ingress.core.received import Trace, masked
from services.ingress.core.refusal import Refusal
from shared.mail.address import Address, Fault

AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LIMITS = ContentLimits()
TRACE = Trace("mail.test", "client.example", "192.0.2.1", "TLSv1.3 TLS_AES_128_GCM_SHA256", "alice")
FROM = b"From: a@x.example\r\n"


def judged(message: bytes, attachments_allowed: bool = False) -> Refusal | None:
    """Parse and check a message for the domain x.example."""
    parsed = content.parse(message, LIMITS, "mail.test")
    if isinstance(parsed, Refusal):
        return parsed
    return content.check(parsed, "x.example", attachments_allowed, smtputf8=False, limits=LIMITS)


def finished(message: bytes) -> content.Accepted:
    """Return a message as it would be stored."""
    parsed = content.parse(message, LIMITS, "mail.test")
    assert isinstance(parsed, Parsed), parsed
    return content.finish(parsed, "x.example", TRACE, "QUEUEID", AT, smtputf8=False)


def test_repairs() -> None:
    """Received on top, Date and Message-ID added, Bcc and Return-Path removed, everything else octet for octet."""
    message = (
        b"Return-Path: <x@y.example>\r\nFrom: a@x.example\r\nBcc: secret@y.example,\r\n more@y.example\r\n"
        b"Subject: =?utf-8?q?h=C3=A9?=\r\n  folded\r\nX-Odd:   spaces \r\n\r\n.dot\r\nbody \r\n"
    )
    accepted = finished(message)
    assert accepted.octets == (
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mail.test (Postlane) with ESMTPSA\r\n"
        b"\t(TLSv1.3, TLS_AES_128_GCM_SHA256; user a*i*e)\r\n"
        b"\tid QUEUEID; Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        b"Message-ID: <QUEUEID@x.example>\r\n"
        b"From: a@x.example\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n  folded\r\nX-Odd:   spaces \r\n\r\n.dot\r\nbody \r\n"
    )
    assert accepted.message_id == "<QUEUEID@x.example>"
    assert accepted.header_from == "a@x.example"
    assert not accepted.eight_bit


@pytest.mark.parametrize(
    "results",
    [
        "mail.test; dkim=pass",
        "MAIL.TEST 1; dkim=pass",
        "(trust (me)) mail.test; dkim=pass",
        '"mail.test"; dkim=pass',
        '"mail\\.test"; dkim=pass',
        "\r\n mail.test;\r\n dkim=pass",
        "(never closed mail.test; dkim=pass",
    ],
)
def test_nobody_else_speaks_in_our_name(results: str) -> None:
    """Authentication-Results of our name do not leave, however it is written; those of others do (RFC 8601 §5)."""
    accepted = finished(FROM + f"Authentication-Results: {results}\r\n\r\n".encode())
    assert b"dkim=pass" not in accepted.octets
    for other in ("mail.test.other.example; dkim=pass", "other.example; x=mail.test", "mail; dkim=pass"):
        field = f"Authentication-Results: {other}\r\n".encode()
        assert field in finished(FROM + field + b"\r\n").octets


def test_an_empty_date_or_message_id_is_none() -> None:
    """What a client left empty is made good, and stands there once."""
    accepted = finished(b"Date:\r\nMessage-ID: \t\r\n" + FROM + b"\r\n")
    assert accepted.message_id == "<QUEUEID@x.example>"
    assert accepted.octets.count(b"Date:") == accepted.octets.count(b"Message-ID:") == 1
    assert b"Message-ID: <QUEUEID@x.example>\r\n" in accepted.octets
    assert b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n" in accepted.octets


def test_nothing_to_repair() -> None:
    """A complete message only gets its trace field."""
    message = FROM + b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <1@x.example>\r\n\r\n\xc3\xa9\r\n"
    accepted = finished(message)
    assert accepted.octets.endswith(message)
    assert accepted.octets.count(b"Date:") == accepted.octets.count(b"Message-ID:") == 1
    assert accepted.eight_bit


def test_message_without_body() -> None:
    """A message may end with its header; what is stored has the empty line."""
    assert finished(FROM).octets.endswith(b"From: a@x.example\r\n\r\n")


@pytest.mark.parametrize(
    ("message", "enhanced"),
    [
        (b"", "5.6.0"),
        (b"\r\ntext\r\n", "5.6.0"),
        (b"text\r\n", "5.6.0"),
        (b" From: a@x.example\r\n\r\n", "5.6.0"),
        (FROM + b" \r\n\r\n", "5.6.0"),
        (FROM + b"To: b@y.example\r\nTo: c@y.example\r\n\r\n", "5.6.0"),
        (FROM + FROM + b"\r\n", "5.6.0"),
        (FROM + b"\r\n\0\r\n", "5.6.0"),
        (FROM + b"\r\na\rb\r\n", "5.6.0"),
        (FROM + b"\r\na\nb\r\n", "5.6.0"),
        (FROM + b"\r\n" + b"x" * 999 + b"\r\n", "5.6.0"),
        (b"Received: x\r\n" * 51 + FROM + b"\r\n", "5.4.6"),
        (b"Received: from a by mail.test (Postlane) with ESMTPSA\r\n" * 2 + FROM + b"\r\n", "5.4.6"),
        (b"Received: from a\r\n by mail.test\r\n\t(Postlane) with\r\n ESMTPSA\r\n" * 2 + FROM + b"\r\n", "5.4.6"),
        (b"From: a@y.example\r\n\r\n", "5.7.1"),
        (b"From: a@sub.x.example\r\n\r\n", "5.7.1"),
        (FROM + b"Sender: a@y.example\r\n\r\n", "5.7.1"),
        (FROM + b"Resent-From: a@y.example\r\n\r\n", "5.7.1"),
        ("From: ä@x.example\r\n\r\n".encode(), "5.6.7"),
        (b"X: y\r\n" * 5001 + FROM + b"\r\n", "5.6.0"),
        (b"X: " + b"y" * 990 + b"\r\n" + (b" " + b"y" * 990 + b"\r\n") * 300 + FROM + b"\r\n", "5.6.0"),
    ],
)
def test_refused(message: bytes, enhanced: str) -> None:
    """Each fault of form has its status code."""
    refusal = judged(message)
    assert refusal is not None
    assert refusal.reply.enhanced == enhanced, refusal


def test_u_label_of_own_domain() -> None:
    """A domain written in Unicode is the same domain (RFC 5890)."""
    parsed = content.parse("From: a@bücher.example\r\n\r\n".encode(), LIMITS, "mail.test")
    assert isinstance(parsed, Parsed)
    assert content.check(parsed, "xn--bcher-kva.example", False, smtputf8=True, limits=LIMITS) is None


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("a@x.example", "a@x.example"),
        ("<a@x.example>", "a@x.example"),
        ("Mailer <a@x.example>", "a@x.example"),
        ('"Mailer, Inc. <b@y.example>" <a@x.example> (comment)', "a@x.example"),
        ("(c(nested)) a@x.example (d)", "a@x.example"),
        ("=?utf-8?q?M=C3=A4?= =?utf-8?q?x?= <a@x.example>", "a@x.example"),
        ("J. R. O'Neil-Doe <a@x.example>", "a@x.example"),
        ('"a b"@x.example', '"a b"@x.example'),
        ('Name <"a>b"@x.example>', '"a>b"@x.example'),
        ("Jürgen <a@x.example>", "a@x.example"),
        ("", None),
        ("Mailer <>", None),
        ("a@x.example, b@x.example", None),
        ("a@x.example b@y.example", None),
        ("a@x.example <b@y.example>", None),
        ("Group: a@x.example;", None),
        ("undisclosed-recipients:;", None),
        ("Mailer <a@x.example> <b@y.example>", None),
        ("Mailer <a@x.example", None),
        ("Mailer <@r.example:a@x.example>", None),
        ("Mailer <a@x.example(comment)>", None),
        ("Mailer (open <a@x.example>", None),
        ("a@x.example@y.example", None),
        ("a@=?utf-8?q?y=2Eexample?=", None),
        ("Mailer \\<a@x.example>", None),
        ("((((((((((((((deep)))))))))))))) a@x.example", None),
        ("=?utf-8?b?Y2VvQGJhbmsuZXhhbXBsZQ==?=@x.example", None),
        ("<=?utf-8?Q?ceo=40bank.example=3E=00?=@x.example>", None),
        ('Mailer (c) <"=?utf-8?q?ceo=40bank.example?="@x.example>', None),
        ("<bounce+a=?b?=c@x.example>", "bounce+a=?b?=c@x.example"),
    ],
)
def test_mailbox(value: str, address: str | None) -> None:
    """Exactly one address comes out, or none."""
    found = parse_mailbox(value)
    assert (found.written if isinstance(found, Address) else None) == address


@given(st.text(alphabet='a@x.example<>"\\(),;: \t', max_size=40))
def test_any_from_is_answered(value: str) -> None:
    """No From makes the parser fail, and an address found is one."""
    found = parse_mailbox(value)
    assert isinstance(found, Address | Fault)


words_of_from = st.sampled_from(
    [
        "Ann", '"Ann B."', "O'Neil", "a@x.example", "<a@x.example>", "<a b@x.example>", "(c)", ",", " ", "\t", "é",
        "=?utf-8?q?x?=", "<=?utf-8?q?x?=@x.example>", "<@y:a@x.example>", "\\", '"', "<a@bücher.example>",
    ]
)  # fmt: skip
header_pieces = st.sampled_from(
    [b"A: b", b"\r\n", b" c", b"\tc", b" \t", b" ", b"\n", b"\r", b":", b"A:", b"\xff", b"x"]
)


@given(st.lists(words_of_from, max_size=6))
def test_the_short_way_to_a_mailbox(words: list[str]) -> None:
    """What usual From fields look like is read the short way, and comes to the same."""
    assert parse_mailbox("".join(words)) == read_words("".join(words))


@given(st.lists(header_pieces, max_size=10))
def test_the_short_way_to_fields(pieces: list[bytes]) -> None:
    """A sound header is read the short way, and comes to the same."""
    block = b"".join(pieces)
    assert parse_fields(block, 4) == (read_lines(block, 4) if block else [])


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\n\r", b"\r\r\n"]), max_size=8))
def test_stray_line_ends(pieces: list[bytes]) -> None:
    """A CR or an LF that is not half of a CRLF is found wherever it is."""
    message = FROM + b"\r\n" + b"".join(pieces)
    stray = message.replace(b"\r\n", b"")
    refusal = judged(message)
    found = refusal is not None and "bare CR or LF" in refusal.reason
    assert found is (b"\r" in stray or b"\n" in stray)


def part(header: str, body: str = "text") -> bytes:
    """Make a whole message with one more header and a body."""
    return FROM + header.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.replace("\n", "\r\n").encode() + b"\r\n"


MIXED = 'Content-Type: multipart/mixed; boundary="b"'


@pytest.mark.parametrize(
    "message",
    [
        part("Content-Type: application/octet-stream"),
        part("Content-Type: image/png"),
        part("Content-Type: message/rfc822"),
        part("Content-Type: text/calendar"),
        part("Content-Type: text/plain; name=x.exe"),
        part("Content-Type: text/plain; NAME*=\"utf-8''x.exe\""),
        part('Content-Type: text/plain; name*0="x"; name*1=".exe"'),
        part("Content-Disposition: attachment"),
        part("Content-Disposition: ATTACHMENT (comment)"),
        part("Content-Disposition: inline; filename=x"),
        part("Content-Disposition: inline; filename*0*=x"),
        part("Content-Disposition: form-data"),
        part("Content-Type: (comment) application/pdf"),
        part("X: y", "begin 644 x.exe\n#0V%T\n`\nend"),
        part("X: y", "text\nbegin-base64 644 x.exe\nQ2F0\n===="),
        part("X: y", "begin-base64-encoded 644 eC5leGU=\nQ2F0\n===="),
        part("X: y", "begin\t0644 \tx.exe\n#0V%T\n`\nend"),
        part("X: y", "begin 100644 x.exe\n#0V%T\n`\nend"),
        part("X: y", "begin 7 x.exe\n#0V%T\n`\nend"),
        part("X: y", "begin 0644 x.exe\n#0V%T\n`\nend"),
        part("X: y", "begin 100 x.exe\n#0V%T\n`\nend"),
        part("X: y", "=ybegin line=128 size=3 name=x.exe"),
        part("X: y", "text\n(This file must be converted with BinHex 4.0)\n\n:$f*TEQKPH#KdEP0$!*!:"),
        part("Content-Transfer-Encoding: quoted-printable", "x=0Dbegin 644 x.exe=0D#0V%T=0D`=0Dend"),
        part("Content-Transfer-Encoding: base64", "AAECAw=="),
        part("Content-Transfer-Encoding: base64", "YmVnaW4gNjQ0IHguZXhlDQojMFYlVA0KYA0KZW5kDQo="),
        part(MIXED, "--b\n\ntext\n--b\nContent-Type: application/pdf\n\nx\n--b--"),
        part(MIXED, "--b\nContent-Type: multipart/digest; boundary=c\n\n--c\n\nFrom: y\n\nx\n--c--\n--b--"),
        part(
            'Content-Type: multipart/related; boundary="b"',
            "--b\nContent-Type: text/html\n\n<p>\n--b\nContent-Type: image/gif\nContent-ID: <i>\n\nGIF\n--b--",
        ),
    ],
)
def test_attachments(message: bytes) -> None:
    """Whatever an attachment looks like, it is refused with 554 5.6.1; and let through where allowed."""
    refusal = judged(message)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reply.enhanced) == (554, "5.6.1"), refusal
    assert judged(message, attachments_allowed=True) is None


FILES = "--b\n\ntext\n--b\nContent-Type: application/pdf{name}\n\nx\n--b--"
DEEP = "".join(f"--b{n}\nContent-Type: multipart/mixed; boundary=b{n + 1}\n\n" for n in range(11))


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (part(MIXED, FILES.format(name="; name=my file (1).pdf")), ""),
        (part(MIXED, FILES.format(name="; name*0=a; name*1=b")), ""),
        (part("Content-Type: text/plain; charset=x; charset=y"), ""),
        (part("Content-Type: multipart/mixed; boundary=b; x", FILES.format(name="")), "parameters of content-type"),
        (part("Content-Type: multipart/mixed", FILES.format(name="")), "no usable boundary"),
        (part(f"{MIXED}\nContent-Transfer-Encoding: base64", FILES.format(name="")), "has a transfer encoding"),
        (part(MIXED, FILES.format(name="")[:-2]), "no final boundary"),
        (part(MIXED, FILES.format(name="\nContent-Type: text/plain")), "two content-type"),
        (part(MIXED, "--b\n\nx\n" * 200 + "--b--"), "more than 100 MIME parts"),
        (part("Content-Type: multipart/mixed; boundary=b0", DEEP), "no final boundary"),
    ],
)
def test_structure_where_files_are_allowed(message: bytes, fault: str) -> None:
    """Files may be named however they are; the parts of a multipart must be the same for every reader."""
    refusal = judged(message, attachments_allowed=True)
    assert (refusal is None) is (not fault)
    assert refusal is None or (refusal.reply.enhanced == "5.6.0" and fault in refusal.reason), refusal


@pytest.mark.parametrize(
    "message",
    [
        part("Content-Type: text/plain\nContent-Type: application/pdf"),
        part("Content-Type : application/pdf"),
        part("Content-Type: text/plain garbage"),
        part("Content-Type: text/plain; charset=utf-8; charset=x"),
        part('Content-Type: text/plain; charset="utf-8'),
        part("Content-Type: text"),
        part("Content-Type: text/plain; =?utf-8?q?name=3Dx?="),
        part("Content-Type: text/plain (plain text)"),
        part('Content-Type: text/plain (; name="x.exe")'),
        part("Content-Disposition: inline (; filename=x.exe)"),
        part("Content-Disposition: (; filename=x.exe) inline"),
        part('Content-Type: text/plain; charset="utf-8; name=x.exe"'),
        part('Content-Type: text/plain; charset="\\"; x=\\""'),
        part(MIXED, "--b\n--b--"),
        part(MIXED, "--b\n--b--\nContent-Type: application/pdf\n\nx"),
        part(MIXED, "--b\n--b\n\ntext\n--b--"),
        part("Content-Transfer-Encoding: x-uuencode"),
        part("Content-Transfer-Encoding: base64", "not base64!"),
        part("Content-Type: multipart/mixed"),
        part(MIXED, "no boundary at all"),
        part(MIXED, "--b\n\ntext"),
        part(MIXED, "--b--"),
        part(MIXED, "--b\n\ntext\n--bc\n\ntext\n--b--"),
        part(MIXED, "--b\n\ntext\n--b--\n--b\n\ntext\n--b--"),
        part(MIXED, "x" * 600 + "\n--b\n\ntext\n--b--"),
        part(MIXED, "--b\n\ntext\n--b--\n" + "x" * 600),
        part(MIXED, "begin 644 x\n--b\n\ntext\n--b--"),
        part(MIXED + "\nContent-Transfer-Encoding: base64", "--b\n\ntext\n--b--"),
        part(MIXED, "--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--bb--\n--b--"),
        part(MIXED, "--b\nContent-Type: text/plain\nContent-Type: text/html\n\nx\n--b--"),
        part(MIXED, "--b\nnot a header\n--b--"),
        part("Content-Type: multipart/mixed; boundary*=b", "--b\n\ntext\n--b--"),
        part("Content-Type: multipart/mixed; boundary=" + "x" * 71, "text"),
        part("Content-Type: multipart/mixed; boundary='b'", "--'b'\n\n--b\nContent-Type: x/y\n\n\n--b--\n--'b'--"),
    ],
)
def test_ambiguous_structure(message: bytes) -> None:
    """What two readers could read in two ways is refused with 550 5.6.0."""
    refusal = judged(message)
    assert refusal is not None
    assert (refusal.reply.code, refusal.reply.enhanced) == (550, "5.6.0"), refusal


@pytest.mark.parametrize(
    "message",
    [
        part("X: y"),
        part("Content-Type: text/plain; charset=utf-8; format=flowed;"),
        part('Content-Type: TEXT/HTML; charset="utf-8"\nContent-Transfer-Encoding: Quoted-Printable', "<p>=C3=A9</p>"),
        part("Content-Transfer-Encoding: base64", "aGVs\nbG8="),
        part("Content-Disposition: inline"),
        part("X: y", "We begin 7 days from now"),
        part("X: y", "We shall\nbegin 7 days from now\nand end in 10"),
        part("X: y", "We shall\nbegin 2027 with joy\nand end it so"),
        part("X: y", "begin 100 days of work\nnow"),
        part("X: y", "converted with BinHex"),
        part(
            'Content-Type: multipart/alternative;\n boundary="=_x y"',
            "This is a multi-part message in MIME format.\n--=_x y\n\ntext\n--=_x y  \n"
            "Content-Type: text/html\n\n<p>\n--=_x y--\n",
        ),
        part(MIXED, "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nx\n--c--\n--b\n\ny\n--b--"),
        part(MIXED, "--b\n\n--b--"),
        part('Content-Type: multipart/mixed; boundary="(b)"', "--(b)\n\ntext\n--(b)--"),
    ],
)
def test_plain_mail(message: bytes) -> None:
    """Ordinary text and HTML mail is let through."""
    assert judged(message) is None


def test_bounds_of_the_walk() -> None:
    """Too many parts and too deep a nesting are faults, quickly."""
    many = part(MIXED, "--b\n\nx\n" * 101 + "--b--")
    refusal = judged(many)
    assert refusal is not None
    assert "more than 100" in refusal.reason
    depth = 12
    body = "x"
    for level in reversed(range(depth)):
        body = f'Content-Type: multipart/mixed; boundary="L{level:02}"\n\n--L{level:02}\n{body}\n--L{level:02}--'
    refusal = judged(FROM + body.replace("\n", "\r\n").encode() + b"\r\n")
    assert refusal is not None
    assert "deeper" in refusal.reason


def test_comments_without_end_take_no_time() -> None:
    """A type with a million comments is read in the time of one walk; tried again from each of them, it took days."""
    field = Field("content-type", b"Content-Type: text/plain " + b"()" * 1_000_000 + b"x\r\n")
    found = content_type(field, digest=False)
    assert isinstance(found, Fault)
    assert "cannot be read" in found.reason


words = st.sampled_from(
    [
        "Content-Type: text/plain", "Content-Type: text/html; charset=utf-8", "Content-Type: application/x",
        "Content-Type: multipart/mixed; boundary=b", "Content-Type: multipart/alternative; boundary=\"c\"",
        "Content-Type: text/plain; name=x", "Content-Type: message/rfc822", "Content-Disposition: attachment",
        "Content-Disposition: inline; filename=x", "Content-Transfer-Encoding: base64", "--b", "--c", "--b--", "--c--",
        "Content-Type: text/plain (; name=x)", "Content-Disposition: inline (; filename=x)", " (c)",
        ' ; a="', "b; name=x", "", "text", " folded", "; name=x", "begin 644 x", "aGVsbG8=", "Subject: x",
        "--bc", "(", '"', "filename=x",
    ]
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(words, max_size=24))
def test_the_standard_library_finds_no_attachment_either(lines: list[str]) -> None:
    """Where we find none, an independent parser sees only text without file names: nobody is fooled."""
    message = FROM + "".join(f"{line}\r\n" for line in lines).encode()
    head = split_header(message, 65_536)
    assert not isinstance(head, Fault)
    fields = parse_fields(head[0], 1000)
    if isinstance(fields, Fault):
        return
    found = find_attachment(fields, message[head[1] :], MimeLimits())
    if found is not None:
        assert isinstance(found, Attachment | Fault)
        return
    for leaf in message_from_bytes(message, policy=modern).walk():
        assert leaf.get_content_maintype() in ("text", "multipart"), message
        if not leaf.is_multipart():
            assert leaf.get_content_type() in ("text/plain", "text/html"), message
            assert leaf.get_filename() is None, message
            assert leaf.get_content_disposition() in (None, "inline"), message


@given(st.binary(max_size=400))
def test_any_octets_are_answered(octets: bytes) -> None:
    """No message makes the checks fail."""
    assert isinstance(content.parse(octets, LIMITS, "mail.test"), Parsed | Refusal)
    refusal = judged(FROM + b"\r\n" + octets.replace(b"\r", b"").replace(b"\n", b"\r\n") + b"\r\n")
    assert refusal is None or refusal.reply.permanent


@given(st.text(max_size=60))
def test_masked_usernames(username: str) -> None:
    """A masked username is printable ASCII of the same length with every second character hidden."""
    shown = masked(username)
    assert len(shown) == len(username)
    assert shown.isascii()
    assert set(shown[1::2]) <= {"*"}
