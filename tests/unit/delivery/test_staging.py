"""Staged mail: who gets what, and what the simulator says."""

import pytest

from services.delivery.core import staging
from services.delivery.core.outcome import Bounced, Deferred, Delivered
from shared.contract.envelope import Recipient, RecipientState, Staging

TWO = (Recipient(number=1, address="ann@team.example"), Recipient(number=2, address="bob@world.example"))


def test_plans() -> None:
    """Every mode has its place for every recipient; nothing is forgotten, and what is unclear is kept."""
    assert staging.plan(None, TWO).deliver == TWO
    assert staging.plan(Staging(mode="deliver"), TWO).deliver == TWO
    assert staging.plan(Staging(mode="capture"), TWO) == staging.Plan((), capture=TWO)
    assert staging.plan(Staging(mode="simulate"), TWO) == staging.Plan((), simulate=TWO)
    assert staging.plan(Staging(mode="redirect", redirect_to="q@team.example"), TWO) == staging.Plan((), redirect=TWO)
    assert staging.plan(Staging(mode="redirect"), TWO) == staging.Plan((), capture=TWO)
    listed = staging.plan(Staging(mode="allow-list", allowed=("*@TEAM.example",)), TWO)
    assert listed == staging.Plan(TWO[:1], capture=TWO[1:])
    assert staging.plan(Staging(mode="allow-list"), TWO) == staging.Plan((), capture=TWO)


@pytest.mark.parametrize(
    ("pattern", "address", "fits"),
    [
        ("a@x.example", "A@x.example", True), ("a@x.example", "ba@x.example", False), ("*", "a@x.example", True),
        ("*@x.example", "a@x.example", True), ("*@x.example", "a@x.example.evil", False),
        ("qa+*@x.example", "qa+1@x.example", True), ("*a*b*", "xxaxxbxx", True), ("*a*b*", "xxbxxaxx", False),
        ("a*a", "a", False), ("a.b", "axb", False), ("*" * 200 + "z", "a" * 250, False),
    ],
)  # fmt: skip
def test_patterns(pattern: str, address: str, fits: bool) -> None:
    """`*` is any characters; everything else is itself, whatever the case of letters."""
    planned = staging.plan(Staging(mode="allow-list", allowed=(pattern,)), [Recipient(number=1, address=address)])
    assert bool(planned.deliver) is fits


@pytest.mark.parametrize(
    ("address", "attempts", "kind", "enhanced"),
    [
        ("delivered@x.example", 0, Delivered, "2.0.0"),
        ("bounce@x.example", 0, Bounced, "5.1.1"),
        ("bounce+552-5.2.2@x.example", 0, Bounced, "5.2.2"),
        ("defer@x.example", 0, Deferred, "4.7.1"),
        ("defer@x.example", 1, Delivered, "2.0.0"),
        ("defer+3x+450-4.2.1@x.example", 2, Deferred, "4.2.1"),
        ("defer+3x@x.example", 3, Delivered, "2.0.0"),
        ("greylist+1x@x.example", 0, Deferred, "4.7.1"),
    ],
)
def test_simulator(address: str, attempts: int, kind: type, enhanced: str) -> None:
    """The local part and the attempts so far decide."""
    recipient = Recipient(number=1, address=address)
    state = RecipientState(number=1, address=address, status="queued", attempts=attempts)
    result = staging.simulated(recipient, state)
    assert isinstance(result, kind)
    assert (result.diagnosis.enhanced, result.diagnosis.host) == (enhanced, "simulator")


def test_redirected_mail_names_who_was_meant() -> None:
    """One line per recipient in front; none can break the header."""
    mail = staging.labelled(b"From: a@b.example\r\n\r\nx", (*TWO, Recipient(number=3, address="gr\u00fc@x.example")))
    assert mail.startswith(b"X-Postlane-Original-Recipient: <ann@team.example>\r\n")
    assert mail.isascii()
    assert mail.endswith(b"From: a@b.example\r\n\r\nx")
