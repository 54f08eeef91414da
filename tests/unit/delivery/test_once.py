"""At most once, and outgoing addresses."""

from datetime import UTC, datetime

import pytest

from services.delivery.core import once
from services.delivery.core.egress import egress
from services.delivery.core.outcome import Bounced, Deferred, Delivered, lost
from services.delivery.core.step import Known
from shared.contract.envelope import Diagnosis, RecipientState

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def known(*states: RecipientState) -> Known:
    """Return what is known of a message with these recipients."""
    return Known(attempt=1, recipients=states, sequence=7, outdated=False)


def test_begun_and_broken_off() -> None:
    """What was begun and never recorded is given up; what was decided before, or never begun, is not touched."""
    one = RecipientState(number=1, address="a@x.example", status="delivered")
    two = RecipientState(number=2, address="b@x.example", status="queued")
    states = once.begun(known(one, two), NOW)
    assert states[0] == one
    assert (states[1].status, states[1].last) == ("deferred", once.BEGUN)
    given_up = once.broken_off(known(*states))
    assert list(given_up) == [2]
    assert isinstance(given_up[2], Bounced)
    assert given_up[2].diagnosis.enhanced == "5.4.2"
    assert once.broken_off(known(one, two)) == {}


def test_settled() -> None:
    """Only an ambiguous outcome is made final."""
    clear, unclear = lost("gone", "connect"), lost("gone", "final", ambiguous=True)
    good = Delivered(diagnosis=Diagnosis(code=250, enhanced="2.0.0", text="ok"))
    made = once.settled({1: clear, 2: unclear, 3: good})
    assert (made[1], made[3]) == (clear, good)
    assert isinstance(made[1], Deferred)
    assert isinstance(made[2], Bounced)
    assert "at most once" in made[2].diagnosis.text


def test_egress() -> None:
    """A configuration keeps its address; a pool is kept to, family by family; names go with addresses."""
    out = egress(
        ("192.0.2.1", "192.0.2.2", "2001:db8::1"), ("bulk=192.0.2.2", "both=192.0.2.1", "both=2001:db8::1"),
        ("192.0.2.2=bulk.example.net",),
    )  # fmt: skip
    assert out.source("c1", "", "198.51.100.1") == out.source("c1", "", "198.51.100.9")
    assert {out.source(f"c{n}", "", "198.51.100.1") for n in range(20)} == {"192.0.2.1", "192.0.2.2"}
    assert {out.source(f"c{n}", "bulk", "198.51.100.1") for n in range(20)} == {"192.0.2.2"}
    assert out.source("c1", "bulk", "2001:db8:1::1") is None
    assert out.source("c1", "both", "2001:db8:1::1") == "2001:db8::1"
    assert out.source("c1", "unknown", "2001:db8:1::1") is None  # a wrong word must not lead to others' addresses
    assert egress((), (), ()).source("c1", "", "198.51.100.1") == ""
    assert (out.name("192.0.2.2", "d"), out.name("192.0.2.1", "d")) == ("bulk.example.net", "d")


@pytest.mark.parametrize(
    ("addresses", "pools", "names"),
    [
        (("nonsense",), (), ()),
        (("192.0.2.1",), ("bulk",), ()),
        (("192.0.2.1",), ("bulk=192.0.2.9",), ()),
        (("192.0.2.1",), (), ("192.0.2.9=x.example",)),
        (("192.0.2.1",), (), ("192.0.2.1=",)),
    ],
)
def test_egress_that_does_not_fit(addresses: tuple[str, ...], pools: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Settings that contradict each other are refused at the start."""
    with pytest.raises(ValueError, match=r".+"):
        egress(addresses, pools, names)
