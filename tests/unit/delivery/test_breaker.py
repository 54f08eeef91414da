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


CLOSING = from_reply(421, "4.7.0 too many messages, for <secret@customer.example>", "rcpt")


def test_the_reason_quotes_no_mail() -> None:
    """All tenants are told why: what a server said after it knew whose mail it has stays with that mail."""
    said = [CLOSING, from_reply(450, "4.7.1 <secret@customer.example>: rate limited", "rcpt")]
    for reply in said:
        breaker = CLOSED
        for _ in range(3):
            breaker = attempt(breaker, 0, reply)
        assert not may_try(breaker, 0)
        assert "secret" not in breaker.reason
        assert f"{reply.diagnosis.code} {reply.diagnosis.enhanced}" in breaker.reason
    busy = from_reply(421, "4.3.2 too many connections from 192.0.2.1", "greeting")
    assert after(CLOSED, [busy], 0, LIMITS).reason == "too many connections from 192.0.2.1"


def test_what_one_sender_has_earned_pauses_nobody_else() -> None:
    """A server that limits one tenant's domain, or lists what stands in its mail, takes that of others."""
    for text in (
        "4.7.28 an unusual rate of unsolicited mail originating from your DKIM domain [customer.example]",
        "4.7.1 throttled: too many messages from domain customer.example",
        "4.7.1 contains a URL listed by spamhaus",
    ):
        for code in (421, 451):
            breaker = CLOSED
            for _ in range(4):
                breaker = attempt(breaker, 0, from_reply(code, text, "final"))
            assert breaker == CLOSED
    general = from_reply(421, "4.7.28 an unusual rate of mail originating from your IP address", "final")
    assert after(CLOSED, [general], 0, LIMITS).failures == 1
