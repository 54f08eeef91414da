"""Shares of what all workers together may do at a destination."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import breaker, share
from services.delivery.core.outcome import from_reply
from shared.contract.siblings import Pressure

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def told(worker: str, seconds_ago: float = 0, breakers: dict[str, str] | None = None, **connections: int) -> Pressure:
    """Return what a worker told."""
    at = NOW - timedelta(seconds=seconds_ago)
    return Pressure(worker=worker, at=at, connections=connections, open_breakers=breakers or {})


def test_who_counts() -> None:
    """Neither this worker itself nor one that was not heard of lately."""
    assert share.fresh([told("a"), told("b"), told("c", 11)], "a", NOW) == [told("b")]
    assert share.fresh([told("clock a year ahead", -86400 * 365), told("b", -2)], "a", NOW) == [told("b", -2)]


def test_places() -> None:
    """Alone everything; with others a share, and no more than they leave; never nothing."""
    assert share.places(20, "g", []) == 20
    assert share.places(20, "g", [told("b", other=20)]) == 20
    assert share.places(20, "g", [told("b", g=3)]) == 10
    assert share.places(20, "g", [told("b", g=18)]) == 2
    assert share.places(20, "g", [told("b", g=20)]) == 1
    assert share.places(2, "g", [told(str(n), g=1) for n in range(5)]) == 1


@given(st.integers(1, 100), st.lists(st.integers(0, 100), min_size=1, max_size=10))
def test_together_they_stay_at_the_limit(limit: int, used: list[int]) -> None:
    """Whoever begins one more within its places keeps the sum at the limit, but for one place per worker."""
    siblings = [told(str(n), g=count) for n, count in enumerate(used)]
    mine = share.places(limit, "g", siblings)
    assert mine == 1 or mine + sum(used) <= limit
    assert mine * (len(used) + 1) <= limit or mine == 1


def test_rate_and_breakers() -> None:
    """A rate is split among those who have something there; a reason is found wherever it was told."""
    assert share.rate(10, "g", [told("b", g=1), told("c", h=1)]) == 5
    assert share.open_elsewhere("g", [told("b"), told("c", breakers={"g": "refused"})]) == "refused"
    assert share.open_elsewhere("h", [told("c", breakers={"g": "refused"})]) == ""


def test_a_provider_that_turns_us_away_opens_the_breaker() -> None:
    """421 and words about reputation count like no answer; a recipient's own deferral does not."""
    limits = breaker.Limits(failures=2, first_pause=30, longest_pause=60)
    for code, text, opens in (
        (421, "4.7.0 try again later", True),
        (451, "4.7.1 poor reputation, throttled", True),
        (450, "4.2.1 mailbox busy", False),
    ):
        state = breaker.CLOSED
        for _ in range(2):
            state = breaker.after(state, [from_reply(code, text, "mail")], 0.0, limits)
        assert bool(state.pause) is opens
