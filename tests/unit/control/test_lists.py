"""Pages, windows of time, endpoints."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.core import metrics, paging
from services.control.core.endpoints import Endpoint, may_be_reached, parse_endpoints
from services.control.core.fault import Fault
from services.tracker.core import rollup
from shared.contract.records import Rule, RuleContext

ITEMS = [(n, (f"name {n}", "Jira" if n % 2 else "")) for n in range(25)]


def test_pages_link_to_their_neighbours() -> None:
    """No previous on the first page, no next on the last, and an offset past the end is an empty page."""
    first, middle, last, past = (paging.page(ITEMS, 10, offset, "") for offset in (0, 10, 20, 25))
    assert [(p.previous, p.next, len(p.items)) for p in (first, middle, last, past)] == [
        (None, 10, 10),
        (0, 20, 10),
        (10, None, 5),
        (15, None, 0),
    ]
    assert first.total == past.total == 25
    assert first.link("http://h/x", 10, "a b") == "http://h/x?limit=10&offset=10&search=a+b"


def test_search_ignores_case_and_blank_finds_all() -> None:
    """The total counts the matches, not the page."""
    assert paging.page(ITEMS, 3, 0, "jira").total == 12
    assert paging.page(ITEMS, 3, 0, "  ").total == 25


@pytest.mark.parametrize(("limit", "offset", "search"), [(0, 0, ""), (101, 0, ""), (1, -1, ""), (1, 0, "x" * 101)])
def test_parameters_beyond_their_limits_are_faults(limit: int, offset: int, search: str) -> None:
    """Each limit of a list is held."""
    assert len(paging.paging_faults(limit, offset, search)) == 1


@pytest.mark.parametrize("text", ["2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00+00:00", "0-1-1T0:0:0Z"])
def test_times_that_are_none_are_refused(text: str) -> None:
    """Only UTC with a Z, and only dates that exist."""
    assert metrics.parse_time(text) is None


def test_times_of_ibm_pattern_are_read() -> None:
    """Leading zeros may be missing, fractions are cut off."""
    assert metrics.parse_time("2026-1-2T3:4:5Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert metrics.parse_time("2026-01-02T03:04:05.678Z") == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_window_must_not_end_before_it_begins() -> None:
    """Both ends are checked, and their order."""
    assert len(metrics.window("x", "y")) == 2
    assert isinstance(metrics.window("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z")[0], Fault)


def test_a_window_without_end_is_counted() -> None:
    """Clients that want everything ask from the first year to the last; buckets reach beyond both ends."""
    since, until = metrics.window("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
    assert isinstance(since, datetime)
    assert isinstance(until, datetime)
    found = rollup.buckets(since, until, metrics.bucket_seconds(since, until), [])
    assert 1 <= len(found) <= metrics.BUCKETS
    assert metrics.window("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z") == (since, since + timedelta(seconds=1))


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(0, 10**9))  # noqa: DTZ001
def test_every_window_fits_into_the_buckets(start: datetime, seconds: int) -> None:
    """However long the window and wherever the borders of the buckets lie, there are at most 48."""
    since = start.replace(tzinfo=UTC)
    width = metrics.bucket_seconds(since, since + timedelta(seconds=seconds))
    first = int(since.timestamp()) // width
    last = int((since + timedelta(seconds=seconds)).timestamp()) // width
    assert last - first + 1 <= metrics.BUCKETS


def test_endpoints_are_read_or_named_as_wrong() -> None:
    """One entry per region."""
    (found,) = parse_endpoints(["eu; smtp.example:587; ; 192.0.2.1 192.0.2.2"])
    assert found == Endpoint(region="eu", public="smtp.example:587", private="", outgoing=("192.0.2.1", "192.0.2.2"))
    for wrong in ("eu", "eu;;;", ";a;b;"):
        with pytest.raises(ValueError, match="must have the form"):
            parse_endpoints([wrong])


def test_endpoints_with_tls_from_the_start() -> None:
    """An entry may go on with the listeners for implicit TLS."""
    (found,) = parse_endpoints(["eu;smtp.example:587;;192.0.2.1;smtp.example:465;"])
    assert (found.public_tls, found.private_tls) == ("smtp.example:465", "")
    for wrong in ("eu;smtp.example;;", "eu;smtp.example:587;;;:465;", "eu;smtp.example:587;;;smtp.example:465"):
        with pytest.raises(ValueError, match="endpoints: "):
            parse_endpoints([wrong])


def test_endpoints_are_open_where_every_enabled_rule_names_a_zone() -> None:
    """A rule for private endpoints closes the public ones; rules that only report or are off open nothing."""

    def rule(
        number: int, *endpoints: Literal["public", "private"], mode: Literal["enabled", "report"] = "enabled"
    ) -> Rule:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return Rule(
            id=str(number), instance="i", contexts=(RuleContext(zones=("z",), endpoints=endpoints),), enforcement=mode,
            created_at=at, updated_at=at, created_by="t", updated_by="t",
        )  # fmt: skip

    def opened(*rules: Rule, zones: tuple[str, ...] = ("z",)) -> tuple[bool, bool]:
        return may_be_reached(rules, zones, "public"), may_be_reached(rules, zones, "private")

    assert opened() == (False, False)
    assert opened(rule(1)) == (True, True)
    assert opened(rule(1), zones=()) == (False, False)
    assert opened(rule(1, "private")) == (False, True)
    assert opened(rule(1), rule(2, "private")) == (False, True)
    assert opened(rule(1), rule(2, "private", mode="report")) == (True, True)
    assert opened(rule(1, mode="report")) == (False, False)
