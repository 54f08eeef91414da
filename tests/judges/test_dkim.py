"""DKIM signatures made by delivery, judged by dkimpy, which shares no line with them."""

import base64
import itertools
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery.core.dkim import NotSignable, sign

judge: Any = dkim
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
HEAD = b"From: A <a@sender.example>\r\nTo: b@other.example\r\nSubject: hello\r\n"


def answer(name: bytes, timeout: int = 5) -> bytes:
    """Serve the public key as the TXT record the judge asks for."""
    assert name.rstrip(b".") == b"sel._domainkey.sender.example"
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(PUBLIC)


def signed(mail: bytes) -> bytes:
    """Sign a mail and return it as it would go out."""
    return sign(mail, key=KEY, domain="sender.example", selector="sel", now_seconds=1_790_000_000) + mail


def verifies(mail: bytes) -> bool:
    """Ask the judge about a mail as it arrives: SMTP cannot carry a last line without its CRLF."""
    try:
        return bool(judge.DKIM(mail if mail.endswith(b"\r\n") else mail + b"\r\n").verify(dnsfunc=answer))
    except judge.ValidationError:
        return False


BODIES = {
    "empty": b"",
    "one empty line": b"\r\n",
    "many empty lines": b"\r\n" * 9,
    "no final CRLF": b"no end",
    "no final CRLF, trailing space": b"no end \t ",
    "trailing spaces": b"a  \r\nb\t\t \r\n c\r\n",
    "only spaces": b"   \r\n \t\r\n\r\n",
    "only spaces without CRLF": b"  \t ",
    "tabs and runs": b"a\t\tb   c \t d\r\n" * 20,
    "runs of every length": b"".join(b"x" + b" " * n + b"y\r\n" for n in range(1, 300)),
    "998 octets": b"x" * 998 + b"\r\n",
    "dot lines": b".\r\n..\r\n.a\r\n",
    "8-bit": "grüße 😀\r\n".encode() + b"\xff\xfe\x80\r\n",
    "controls": b"\x00\x01\x0b\x0c\x1b[0m\x7f\r\n",
    "vertical tab before end": b"a\x0b\r\nb\x0c\r\n",
    "many final lines": b"a\r\n" + b"\r\n" * 50,
    "spaces in final lines": b"a\r\n" + b" \r\n\t\r\n" * 5,
    "large": b"The quick brown  fox\tjumps over the lazy dog. \r\n" * 3000,
}
HEADS = {
    "plain": HEAD,
    "folded": b"From: A\r\n <a@sender.example>\r\nSubject: a\r\n\t b\r\n  c \r\nTo: x@y.example,\r\n z@y.example\r\n",
    "trailing space": b"From: a@sender.example  \r\nSubject: x \t \r\n",
    "no space after the colon": b"From:a@sender.example\r\nSubject:x\r\nTo:\r\n",
    "empty value": b"From: a@sender.example\r\nSubject: \r\nCc:\r\n",
    "case": b"FROM: a@sender.example\r\nsUbJeCt: X\r\n",
    "8-bit": "From: Grüße <a@sender.example>\r\nSubject: \u4f60\u597d\r\n".encode(),
    "several of one name": HEAD + b"Subject: second\r\nTo: c@other.example\r\nTo: d@other.example\r\n",
    "mime": HEAD
    + b"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
    "list": HEAD + b"List-Unsubscribe: <https://x.example/u>,\r\n <mailto:u@x.example>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
    "unsigned fields": HEAD + b"X-Mailer: y\r\nReceived: from a by b;\r\n\tMon, 23 Nov 2026 00:00:00 +0000\r\n",
    "long field": b"From: a@sender.example\r\nReferences:" + b"\r\n <aaaaaaaaaaaaaaaa@x.example>" * 60 + b"\r\n",
    "already signed": b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AA==; b=AA==\r\n" + HEAD,
    "wide run": b"From: a@sender.example\r\nSubject: a" + b" " * 500 + b"b\r\n",
}


@pytest.mark.parametrize(("head", "body"), list(itertools.product(HEADS, BODIES)))
def test_table(head: str, body: str) -> None:
    """Every pairing of a nasty header and a nasty body verifies."""
    assert verifies(signed(HEADS[head] + b"\r\n" + BODIES[body]))


@pytest.mark.parametrize("mail", [HEAD, HEAD + b"\r\n", HEAD[:-2]], ids=["no blank line", "no body", "no final CRLF"])
def test_header_only(mail: bytes) -> None:
    """A message that is nothing but a header verifies once it is sent with its lines ended."""
    assert verifies(signed(mail))


@pytest.mark.parametrize(
    "change",
    [
        (b"Subject: hello", b"Subject: other"),
        (b"From: A", b"Reply-To: evil@x.example\r\nFrom: A"),
        (b"From: A", b"List-Unsubscribe: <https://evil.example>\r\nFrom: A"),
        (b"From: A", b"Subject: hello\r\nFrom: A"),
        (b"body text", b"body  changed"),
        (b"body text\r\n", b"body text\r\nappended\r\n"),
    ],
)
def test_judge_refuses_changes(change: tuple[bytes, bytes]) -> None:
    """The judge refuses a signed message that was changed, so its yes means something; additions count as changes."""
    out = signed(HEAD + b"\r\nbody text\r\n")
    assert verifies(out)
    assert not verifies(out.replace(*change, 1))


def test_no_length_tag_and_short_lines() -> None:
    """The signature never limits the body and never has a long line."""
    field = sign(HEAD + b"\r\nx\r\n", key=KEY, domain="sender.example", selector="sel", now_seconds=1)
    tags = {tag.strip().partition(b"=")[0] for tag in field.partition(b":")[2].split(b";")}
    assert b"l" not in tags
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))


def test_no_from_is_not_signable() -> None:
    """Without a From field there is nothing a signature could vouch for."""
    with pytest.raises(NotSignable):
        signed(b"To: a@b.example\r\n\r\nx\r\n")


PIECES = [b" ", b"  ", b"\t", b"a", b".", b"\xc3\xbc", b"=", b"x" * 40, b"\r\n", b"\r\n\r\n", b"\x00", b":"]
FOLDS = [b" ", b"\t", b"a", b"b c", b"\r\n ", b"\r\n\t", b";", b"\xe4"]
NAMES = [b"Subject", b"To", b"X-A", b"Date", b"Content-Type", b"reply-to"]
WORDS = st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join)
VALUES = st.lists(st.sampled_from(FOLDS), max_size=20).map(b"".join)


def test_a_second_signature_with_ed25519() -> None:
    """The judge checks either signature of a mail by its place, and refuses both when the body was changed."""
    second = ed25519.Ed25519PrivateKey.generate()
    public = base64.b64encode(second.public_key().public_bytes_raw())
    mail = HEAD + b"\r\nbody text\r\n"
    field = sign(mail, key=second, domain="sender.example", selector="ed", now_seconds=1_790_000_000)
    both = field + signed(mail)

    def serve(name: bytes, timeout: int = 5) -> bytes:
        return b"v=DKIM1; k=ed25519; p=" + public if name.startswith(b"ed.") else answer(name)

    assert judge.DKIM(both).verify(idx=0, dnsfunc=serve)
    assert judge.DKIM(both).verify(idx=1, dnsfunc=serve)
    for place in (0, 1):
        with pytest.raises(judge.ValidationError):
            judge.DKIM(both.replace(b"body", b"Body")).verify(idx=place, dnsfunc=serve)
    forged = both.replace(b"Subject: hello", b"Subject: other")
    assert not judge.DKIM(forged).verify(idx=0, dnsfunc=serve)


@settings(max_examples=300, deadline=None)
@given(body=WORDS, fields=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8))
def test_any_message(body: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    """Any combination of whitespace, folding, repeated fields and line ends verifies."""
    head = b"From: a@sender.example\r\n" + b"".join(n + b":" + b" x" + v.rstrip() + b"\r\n" for n, v in fields)
    assert verifies(signed(head + b"\r\n" + body))
