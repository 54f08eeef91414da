"""From DNS answers to exchangers."""

import pytest

from services.delivery.core import reach
from services.delivery.core.outcome import Bounced, Deferred
from services.delivery.core.route import (
    Exchangers,
    Found,
    MxFound,
    NoAnswer,
    NoData,
    NoName,
    domain_of,
    doors,
    exchangers,
    no_way,
)

ANY = reach.networks(["127.0.0.0/8"])


def test_preference_then_chance() -> None:
    """Lower preference first; among equals the given chances decide."""
    answer = MxFound(((20, "c."[:-1]), (10, "a"), (10, "b")))
    assert exchangers("x.example", answer, [0.9, 0.5, 0.1]) == Exchangers(("b", "a", "c"))
    assert exchangers("x.example", answer, [0.9, 0.1, 0.5]) == Exchangers(("a", "b", "c"))


def test_implicit_mx() -> None:
    """A domain without MX is its own exchanger."""
    assert exchangers("x.example", NoData(), []) == Exchangers(("x.example",), implicit=True)


def test_null_mx() -> None:
    """A null MX bounces with 5.1.10 and no connection."""
    result = exchangers("x.example", MxFound(((0, ""),)), [])
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.1.10"


def test_null_mx_beside_others_is_ignored() -> None:
    """A root among real exchangers is only left out (RFC 7505 §3)."""
    assert exchangers("x.example", MxFound(((0, ""), (10, "a"))), [0.5]) == Exchangers(("a",))


def test_no_such_domain_and_no_answer() -> None:
    """NXDOMAIN is permanent, SERVFAIL and time-outs are temporary."""
    gone = exchangers("x.example", NoName(), [])
    unknown = exchangers("x.example", NoAnswer("SERVFAIL"), [])
    assert isinstance(gone, Bounced)
    assert gone.diagnosis.enhanced == "5.1.2"
    assert isinstance(unknown, Deferred)
    assert unknown.diagnosis.enhanced == "4.4.3"


def test_caps() -> None:
    """A hundred exchangers and a thousand addresses are cut to their limits."""
    many = exchangers("x.example", MxFound(tuple((n, f"h{n}") for n in range(100))), [0.5])
    assert isinstance(many, Exchangers)
    assert many.hosts == tuple(f"h{n}" for n in range(10))
    found = doors("h", NoData(), Found(tuple(f"8.8.{n // 250}.{n % 250}" for n in range(1000))), allowed=())
    assert len(found.doors) == 5


def test_families_alternate() -> None:
    """IPv6 and IPv4 take turns, so that a dead family costs one try."""
    found = doors("h", Found(("2606::1", "2606::2")), Found(("8.8.8.8",)), allowed=())
    assert [door.address for door in found.doors] == ["2606::1", "8.8.8.8", "2606::2"]
    found = doors("h", Found(("2606::1",)), Found(("8.8.8.8",)), allowed=(), prefer_ipv6=False)
    assert [door.address for door in found.doors] == ["8.8.8.8", "2606::1"]


def test_forbidden_addresses_are_left_out() -> None:
    """Of a host's addresses only the permitted ones become doors; a host with none is a permanent failure."""
    found = doors("h", NoData(), Found(("10.0.0.1", "8.8.8.8", "127.0.0.1")), allowed=())
    assert [door.address for door in found.doors] == ["8.8.8.8"]
    closed = doors("h", Found(("::1",)), Found(("127.0.0.1",)), allowed=())
    assert closed.doors == ()
    assert isinstance(closed.problem, Bounced)
    assert closed.problem.diagnosis.enhanced == "5.4.4"
    assert doors("h", NoData(), Found(("127.0.0.1",)), allowed=ANY).doors != ()


def test_one_unknown_exchanger_is_enough_to_wait() -> None:
    """If one exchanger's address could not be looked up, the recipients wait; if all are hopeless, they bounce."""
    hopeless = doors("a", NoName(), NoName(), allowed=()).problem
    unknown = doors("b", NoAnswer("timeout"), NoData(), allowed=()).problem
    assert hopeless is not None
    assert unknown is not None
    assert isinstance(no_way([hopeless, unknown], "x.example"), Deferred)
    assert isinstance(no_way([hopeless, hopeless], "x.example"), Bounced)
    assert isinstance(no_way([], "x.example"), Deferred)


@pytest.mark.parametrize(
    ("address", "domain"), [("a@X.Example", "x.example"), ("a@b\u00fccher.example", "xn--bcher-kva.example")]
)
def test_domain(address: str, domain: str) -> None:
    """Recipients are routed by their domain in A-labels."""
    assert domain_of(address) == domain


@pytest.mark.parametrize("address", ["a", "a@", "a@[127.0.0.1]", "a@localhost", "@x:a@b.example", "a@b..example"])
def test_unroutable(address: str) -> None:
    """Literals and malformed addresses bounce without a look-up."""
    assert isinstance(domain_of(address), Bounced)


def test_a_mapped_address_is_an_ipv4_address() -> None:
    """Else it would leave from an address that the configuration's pool does not have."""
    found = doors("h", Found(("::ffff:8.8.8.8",)), Found(("8.8.8.8",)), allowed=())
    assert [door.address for door in found.doors] == ["8.8.8.8"]
    assert "127.0.0.1: it is a loopback" in str(doors("h", Found(("::ffff:127.0.0.1",)), NoData(), allowed=()).problem)
