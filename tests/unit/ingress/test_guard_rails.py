"""A user's own limits: patterns of addresses, networks, staging."""

import datetime
import fnmatch
import re
from ipaddress import ip_address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core import guard_rails
from shared.contract.envelope import Staging
from shared.contract.records import User
from shared.mail.address import Address, parse_address

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
USER = User(id="u", instance="i", configuration="c", username="gina", passwords=(), created_at=AT, updated_at=AT)


def address(text: str) -> Address:
    """Parse an address that is valid."""
    found = parse_address(text)
    assert isinstance(found, Address)
    return found


@pytest.mark.parametrize(
    ("pattern", "written", "matches"),
    [
        ("jira@x.example", "JIRA@X.example", True),
        ("jira@x.example", "jira2@x.example", False),
        ("*@x.example", "a@sub.x.example", False),
        ("*@*x.example", "a@sub.x.example", True),
        ("*-bot@x.example", "-bot@x.example", True),
        ("a*b*a@x.example", "aba@x.example", True),
        ("a*b*a@x.example", "aa@x.example", False),
        ("ab*ba@x.example", "aba@x.example", False),
        ("*", "a@x.example", True),
    ],
)
def test_patterns(pattern: str, written: str, matches: bool) -> None:
    """A star stands for any characters, everything else for itself in any case."""
    assert guard_rails.matches((pattern,), address(written)) is matches


@given(st.text("ab*", max_size=12), st.text("ab", min_size=1, max_size=12))
def test_patterns_agree_with_the_library(pattern: str, local: str) -> None:
    """The matcher says what a regular expression says, in less time."""
    expected = re.fullmatch(fnmatch.translate(f"{pattern}@x.example"), f"{local}@x.example") is not None
    assert guard_rails.matches((f"{pattern}@x.example",), address(f"{local}@x.example")) is expected


def test_no_limits_limit_nothing() -> None:
    """A user without limits may come from anywhere and write as and to anybody."""
    assert guard_rails.network_denial(USER, None) == ""
    assert guard_rails.sender_refused(USER, address("a@b.example")) is None
    assert guard_rails.recipient_refused(USER, address("a@b.example")) is None
    assert guard_rails.staging(USER) is None


def test_networks() -> None:
    """An address outside, an unknown one, and a network that cannot be read, admit nobody."""
    user = msgspec.structs.replace(USER, networks=("192.0.2.0/24", "2001:db8::/32", "nonsense"))
    assert guard_rails.network_denial(user, ip_address("192.0.2.9")) == ""
    assert guard_rails.network_denial(user, ip_address("2001:db8::1")) == ""
    assert "192.0.3.1" in guard_rails.network_denial(user, ip_address("192.0.3.1"))
    assert guard_rails.network_denial(user, None)


def test_staging_travels_with_the_message() -> None:
    """What becomes of a testing user's mail is put into the envelope."""
    user = msgspec.structs.replace(USER, staging="redirect", redirect_to="qa@x.example")
    assert guard_rails.staging(user) == Staging(mode="redirect", redirect_to="qa@x.example")
