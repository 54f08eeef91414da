"""MTA-STS records and policies, from whatever octets come."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import sts
from shared.mail.address import Fault

NOW = datetime(2026, 11, 2, tzinfo=UTC)
GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n"


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=STSv1;id=1"], "1"),
        (["v=STSv1 ; id=1 ; ext=x"], "1"),
        (["v=STSv1; ext=x; id=1; id=2"], "1"),
        (["other", "v=STSv1; id=1", "v=spf1 -all"], "1"),
        (["v=STSv1; id=1", "v=STSv1; id=2"], ""),
        (["v=STSv1; id=1", "v=STSv1; id=1"], ""),
        (["v=STSv1"], ""),
        (["v=STSv1; id="], ""),
        (["v=STSv1; id=a_b"], ""),
        (["v=STSv1; id=" + "a" * 33], ""),
        (["v=STSv1; id=1; nonsense"], ""),
        (["v=STSv10; id=1"], ""),
        ([" v=STSv1; id=1"], ""),
        (["id=1; v=STSv1"], ""),
        ([], ""),
    ],
)
def test_records(texts: list[str], found: str) -> None:
    """RFC 8461 §3.1: exactly one well-formed record, or there is no policy."""
    assert sts.record_id(texts) == found


def test_a_policy() -> None:
    """RFC 8461 §3.2, with either line end, unknown keys, repeated keys and no last line end."""
    wanted = sts.Terms("enforce", ("mail.example.com", "*.example.net"), 604800)
    assert sts.terms(GOOD) == wanted
    assert sts.terms(GOOD.replace(b"\r\n", b"\n").rstrip()) == wanted
    assert sts.terms(GOOD + b"mode: none\nfuture-key: \xc3\xbc x\n") == wanted
    assert sts.terms(b"version:STSv1\nmode:none\nmax_age:0") == sts.Terms("none", (), 0)
    longest = sts.terms(GOOD.replace(b"604800", b"9999999999"))
    assert isinstance(longest, sts.Terms)
    assert longest.max_age_seconds == sts.LONGEST_SECONDS


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"STSv1", b"STSv2"), (b"version: STSv1\r\n", b""), (b"enforce", b"maybe"), (b"mode: enforce\r\n", b""),
        (b"604800", b"-1"), (b"604800", b"soon"), (b"604800", b"12345678901"), (b"max_age: 604800\r\n", b""),
        (b"mx: mail.example.com\r\nmx: *.example.net\r\n", b""), (b"*.example.net", b"a.*.example.net"),
        (b"*.example.net", b"*"), (b"*.example.net", b"*."), (b"*.example.net", b""), (b"mode", b"mo de"),
        (b"mail.example.com", b"192.0.2.1"), (b"mail.example.com", b"\xff"),
    ],
)  # fmt: skip
def test_bad_policies(was: bytes, becomes: bytes) -> None:
    """What is not a policy is none, with a reason."""
    assert was in GOOD
    assert isinstance(sts.terms(GOOD.replace(was, becomes)), Fault)


@given(st.binary(max_size=400) | st.builds(lambda a, b: GOOD[:a] + b + GOOD[a:], st.integers(0, 90), st.binary()))
def test_any_octets(body: bytes) -> None:
    """Whatever a web server sends ends in terms that hold, or in a fault; never in an exception."""
    found = sts.terms(body)
    if isinstance(found, sts.Terms):
        assert found.mode in ("enforce", "testing", "none")
        assert 0 <= found.max_age_seconds <= sts.LONGEST_SECONDS
        assert found.mx or found.mode == "none"


@given(st.lists(st.text(max_size=60) | st.from_regex(r"v=STSv1; *id=[A-Za-z0-9]{0,40};?", fullmatch=True), max_size=4))
def test_any_texts(texts: list[str]) -> None:
    """Whatever DNS answers: an id of the allowed form, or none."""
    found = sts.record_id(texts)
    assert found == "" or (found.isalnum() and len(found) <= 32)


@pytest.mark.parametrize(
    ("pattern", "host", "named"),
    [
        ("mail.example.com", "mail.example.com", True),
        ("mail.example.com", "MAIL.example.com", True),
        ("mail.example.com", "x.mail.example.com", False),
        ("*.example.com", "mail.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.mail.example.com", False),
        ("*.example.com", "mailexample.com", False),
    ],
)
def test_matching(pattern: str, host: str, named: bool) -> None:
    """RFC 8461 §4.1: a wildcard is one whole label, the leftmost."""
    assert sts.matches(pattern, host) is named


def test_demands() -> None:
    """Only enforce demands, testing notes, none and no policy leave mail as it is."""
    found = sts.terms(GOOD)
    assert isinstance(found, sts.Terms)
    enforced = sts.demand(sts.policy("example.com", "7", found, NOW))
    assert (enforced.policy, enforced.enforced) == ("MTA-STS enforce 7", True)
    assert enforced.allows("x.example.net")
    assert not enforced.allows("evil.example")
    tested = sts.demand(sts.policy("example.com", "7", sts.Terms("testing", ("a.example",), 5), NOW))
    assert (tested.policy, tested.enforced) == ("MTA-STS testing 7", False)
    assert (
        sts.demand(None)
        == sts.OPPORTUNISTIC
        == sts.demand(sts.policy("example.com", "7", sts.Terms("none", (), 5), NOW))
    )
    assert sts.OPPORTUNISTIC.allows("anything")
