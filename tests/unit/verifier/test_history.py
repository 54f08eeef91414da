"""Histories of observations, the changes they tell, and the SPF record to publish."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core.drift import changes, last_good, remembered
from services.verifier.core.spf_merge import merge
from services.verifier.core.spf_record import SpfRecord, parse
from shared.contract.standing import Observation, Sighting, Verdict

NOW = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)
GOOD, BAD = "v=spf1 include:a.example include:spf.relay.example -all", "v=spf1 include:a.example -all"
ADVISED = "v=spf1 include:spf.relay.example -all"


def seen(minute: int, verdict: Verdict, *values: str) -> Observation:
    at = NOW + timedelta(minutes=minute)
    return Observation(verdict=verdict, detail=verdict, name="d.example", at=at, values=values)


def history(*observations: Observation, kept: int = 20) -> tuple[Sighting, ...]:
    told: tuple[Sighting, ...] = ()
    for observation in observations:
        told = remembered(told, (observation,), kept)
    return told


def test_the_same_sight_lengthens_its_sighting() -> None:
    """One entry per change, from its first to its last sight."""
    told = history(seen(0, "pass", GOOD), seen(5, "pass", GOOD), seen(10, "fail", BAD))
    assert [(s.observation.values, s.observation.at.minute, s.until.minute) for s in told] == [
        ((BAD,), 10, 10), ((GOOD,), 0, 5),
    ]  # fmt: skip


def test_a_change_is_told_with_its_terms_and_times() -> None:
    """What was lost, what was gained, between which two checks; unknown sights do not count."""
    told = history(
        seen(0, "pass", GOOD), seen(5, "unknown"), seen(7, "fail", BAD), seen(9, "fail"), seen(12, "pass", GOOD),
    )  # fmt: skip
    assert changes(told) == (
        f"d.example got a record between 2026-11-01 02:09:00 UTC and 2026-11-01 02:12:00 UTC: {GOOD}",
        f"d.example lost its record between 2026-11-01 02:07:00 UTC and 2026-11-01 02:09:00 UTC; it was: {BAD}",
        "d.example lost include:spf.relay.example between 2026-11-01 02:00:00 UTC and 2026-11-01 02:07:00 UTC",
    )


def test_the_last_good_sight_is_kept_however_long_the_trouble() -> None:
    """A history has its limit, and what was good stays in it to compare with."""
    told = history(
        seen(0, "pass", GOOD), *(seen(n, "fail", f"v=spf1 a:x{n}.example -all") for n in range(1, 50)), kept=5
    )
    assert len(told) == 5
    good = last_good(told, "d.example")
    assert good is not None
    assert good.observation.values == (GOOD,)


@pytest.mark.parametrize(
    ("published", "value"),
    [
        ((), ADVISED),
        (("unrelated text",), ADVISED),
        ((BAD,), "v=spf1 include:a.example include:spf.relay.example -all"),
        ((GOOD,), GOOD),
        (("v=spf1 mx ~all",), "v=spf1 mx include:spf.relay.example ~all"),
        (("v=spf1 mx",), "v=spf1 mx include:spf.relay.example"),
        (("v=spf1 mx redirect=b.example",), "v=spf1 mx include:spf.relay.example redirect=b.example"),
        (("v=spf1 +include:SPF.relay.example ?all",), "v=spf1 +include:SPF.relay.example ?all"),
        (("v=spf1 mx ~all", "v=spf1 a mx -all"), "v=spf1 mx a include:spf.relay.example ~all"),
        (("v=spf1 mx -al",), ADVISED),
    ],
)
def test_the_record_to_publish_keeps_what_the_domain_has(published: tuple[str, ...], value: str) -> None:
    """Own terms stay, ours goes before the end, two records become one, a broken one is replaced."""
    assert merge(published, ADVISED).value == value


TERMS = st.lists(
    st.sampled_from(["a", "mx", "ip4:192.0.2.1", "include:x.example", "~all", "redirect=y.example", "ptr"]), max_size=6
)


@given(st.lists(TERMS, max_size=3))
def test_what_is_merged_is_a_record_that_includes_ours_and_is_merged_already(records: list[list[str]]) -> None:
    """Merging again changes nothing."""
    value = merge(tuple(" ".join(["v=spf1", *terms]) for terms in records), ADVISED).value
    parsed = parse(value)
    assert isinstance(parsed, SpfRecord)
    assert any(d.text == "include:spf.relay.example" for d in parsed.directives)
    assert merge((value,), ADVISED).value == value
