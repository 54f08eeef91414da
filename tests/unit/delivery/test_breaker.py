"""Leaving a destination alone that does not answer."""

from services.delivery.core.breaker import CLOSED, Breaker, Limits, after, may_try, trying
from services.delivery.core.outcome import Outcome, from_reply, lost, ours

LIMITS = Limits(failures=3, first_pause=30, longest_pause=100)
DEAD = lost("connection refused", "connect")
ALIVE = from_reply(250, "ok", "final")


def attempt(breaker: Breaker, now: float, *outcomes: Outcome) -> Breaker:
    """Let one message try."""
    assert may_try(breaker, now)
    return after(trying(breaker), outcomes, now, LIMITS)


def opened() -> Breaker:
    """Return a breaker that opened at 0."""
    breaker = CLOSED
    for _ in range(3):
        breaker = attempt(breaker, 0, DEAD)
    return breaker


def test_opens_after_failures_in_a_row() -> None:
    """Three unanswered attempts open it; an answer in between starts the count anew."""
    breaker = attempt(attempt(CLOSED, 0, DEAD), 0, DEAD)
    assert may_try(breaker, 0)
    assert attempt(breaker, 0, ALIVE) == CLOSED
    assert not may_try(attempt(breaker, 0, DEAD), 29)
    assert opened().reason == "connection refused"


def test_one_probe_after_the_pause() -> None:
    """When the pause is over exactly one message goes; its success closes, its failure pauses for longer."""
    breaker = opened()
    assert may_try(breaker, 30)
    assert not may_try(trying(breaker), 30)
    assert attempt(breaker, 30, ALIVE) == CLOSED
    worse = attempt(breaker, 30, DEAD)
    assert not may_try(worse, 89)
    assert may_try(worse, 90)
    worst = attempt(worse, 90, DEAD)
    assert worst.pause == 100


def test_refusals_are_answers() -> None:
    """A destination that refuses recipients or defers them speaks: that never opens the breaker."""
    breaker = CLOSED
    for reply in (from_reply(550, "no", "rcpt"), from_reply(450, "later", "rcpt"), from_reply(451, "no", "mail")) * 3:
        breaker = attempt(breaker, 0, reply)
    assert breaker == CLOSED


def test_a_probe_that_says_nothing_frees_the_next() -> None:
    """A probe that was stopped by us, or cancelled, neither closes the breaker nor blocks it for ever."""
    for outcomes in ((), (ours("4.3.2", "stopped"),)):
        breaker = attempt(opened(), 30, *outcomes)
        assert may_try(breaker, 30)
        assert breaker != CLOSED


def test_late_failures_do_not_lengthen_the_pause() -> None:
    """Attempts that began before it opened fail without counting again."""
    breaker = opened()
    assert after(breaker, [DEAD], 5, LIMITS).open_until == breaker.open_until
