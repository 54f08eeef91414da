"""Arguments of MAIL and RCPT: strict, each parameter once, values untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.commands import Destination, Sender, parse_mail, parse_rcpt
from shared.mail.reply import Reply


def test_all_parameters() -> None:
    """Parameters are read in any case and order, and their values keep theirs."""
    sender = parse_mail("from: <A@Shop.example> size=10 body=8bitmime AUTH=<> Ret=hdrs ENVID=Qq+2B")
    assert isinstance(sender, Sender)
    assert sender.address is not None
    assert (sender.address.written, sender.address.domain) == ("A@Shop.example", "shop.example")
    assert (sender.size, sender.eight_bit, sender.smtputf8, sender.ret, sender.envid) == (
        10, True, False, "HDRS", "Qq+2B",
    )  # fmt: skip
    destination = parse_rcpt("TO:<b@x.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bc@x.example", smtputf8=False)
    assert isinstance(destination, Destination)
    assert (destination.notify, destination.orcpt) == ("SUCCESS,DELAY", "rfc822;B+2Bc@x.example")


def test_null_sender() -> None:
    """The null sender is no address."""
    sender = parse_mail("FROM:<>")
    assert isinstance(sender, Sender)
    assert sender.address is None


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("", 501, "5.5.4"),
        ("FROM:", 501, "5.5.4"),
        ("FROM:a@x.example", 501, "5.5.4"),
        (" FROM:<a@x.example>", 501, "5.5.4"),
        ("FROM:<a@x.example>SIZE=1", 501, "5.5.4"),
        ("FROM:<a@x.example> SIZE=", 501, "5.5.4"),
        ("FROM:<a@x.example> SIZE=-1", 501, "5.5.4"),
        ("FROM:<a@x.example> SIZE=1 size=2", 501, "5.5.4"),
        ("FROM:<a@x.example> SMTPUTF8=yes", 501, "5.5.4"),
        ("FROM:<a@x.example> SIZE=1\u2003BODY=8BITMIME", 501, "5.5.4"),
        ("FROM:<a@x.example> RET=ALL", 501, "5.5.4"),
        ("FROM:<a@x.example> XCOLOUR", 555, "5.5.4"),
        ("FROM:<postmaster>", 501, "5.1.7"),
        ("FROM:<a@[192.0.2.1]>", 501, "5.1.7"),
        ("FROM:<@r.example:a@x.example>", 501, "5.1.7"),
        ("FROM:<a@x.example.>", 501, "5.1.7"),
        ("FROM:<a b@x.example>", 501, "5.1.7"),
        ("FROM:<" + "a" * 65 + "@x.example>", 501, "5.1.7"),
        ("FROM:<ä@x.example>", 553, "5.6.7"),
    ],
)
def test_refused_senders(argument: str, code: int, enhanced: str) -> None:
    """What is wrong comes back as the right reply."""
    found = parse_mail(argument)
    assert isinstance(found, Reply)
    assert (found.code, found.enhanced) == (code, enhanced)


@pytest.mark.parametrize("value", ["NEVER,DELAY", "SUCCESS,SUCCESS", "", "SOMETIMES", "FAILURE,"])
def test_refused_notify(value: str) -> None:
    """NEVER stands alone and each word once (RFC 3461 §4.1)."""
    assert isinstance(parse_rcpt(f"TO:<b@x.example> NOTIFY={value}", smtputf8=False), Reply)


def test_quoted_local_part() -> None:
    """A quoted local part may hold spaces, angle brackets and an @, and stays as it is."""
    found = parse_rcpt('TO:<"a b>@c"@x.example> NOTIFY=NEVER', smtputf8=False)
    assert isinstance(found, Destination)
    assert found.address.written == '"a b>@c"@x.example'


@given(st.text(max_size=80))
def test_any_text_is_answered(text: str) -> None:
    """No argument makes the parsers fail."""
    for argument in (text, f"FROM:<{text}>", f"FROM:<a@x.example> {text}"):
        assert isinstance(parse_mail(argument), Sender | Reply)
    assert isinstance(parse_rcpt(f"TO:<{text}>", smtputf8=True), Destination | Reply)
