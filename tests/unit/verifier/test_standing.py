"""The state machine: every cell of its table, and the clocks that lie to it."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core.standing import LONGEST_CHECK, TABLE, Inspection, Policy, apply, fresh, overtaken
from shared.contract.records import Configuration
from shared.contract.standing import Observation, Standing, StandingState, Verdict

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
FAILING: list[tuple[Verdict, timedelta]] = [("fail", 10 * MINUTE)]
POLICY = Policy(grace=60 * MINUTE, failures_to_suspend=3, stale_after=30 * MINUTE)
CONFIGURATION = Configuration(
    id="c-1", instance="i-1", name="n", domain="example.com", selector="s", dkim_value="", spf_value="",
    created_at=NOW, updated_at=NOW,
)  # fmt: skip


def found(verdict: Verdict, at: datetime = NOW, dkim: Verdict = "pass") -> Inspection:
    def seen(what: Verdict, name: str) -> Observation:
        return Observation(verdict=what, detail=f"{name} {what}.", name=name, at=at)

    return Inspection(at=at, spf=seen(verdict, "SPF"), dkim=seen(dkim, "DKIM"))


def standing(state: StandingState, **fields: object) -> Standing:
    return msgspec.structs.replace(fresh(CONFIGURATION, NOW), state=state, **fields)


def run(start: Standing, *checks: tuple[Verdict, timedelta]) -> list[Standing]:
    """Apply checks, each so long after the one before, from NOW on."""
    at, steps, present = NOW, [], start
    for verdict, gap in checks:
        at += gap
        present = apply(present, found(verdict, at), POLICY).standing
        steps.append(present)
    return steps


def test_the_table_covers_every_state_and_verdict() -> None:
    """No cell is missing."""
    assert set(TABLE) == {(s, v) for s in get_args(StandingState) for v in get_args(Verdict)}


@pytest.mark.parametrize("state", get_args(StandingState))
def test_not_knowing_never_moves_a_standing(state: StandingState) -> None:
    """An unanswered question keeps state, since, and the run of failures; it only starts to count the silence."""
    before = standing(state, failures=2, failing_since=NOW - 300 * MINUTE, checked_at=NOW - MINUTE)
    after, moved_from, _ = apply(before, found("unknown"), POLICY)
    assert moved_from is None
    assert (after.state, after.since, after.failures, after.failing_since) == (
        state, before.since, before.failures, before.failing_since,
    )  # fmt: skip
    assert after.unknown_since == NOW


@pytest.mark.parametrize(
    ("before", "older"),
    [
        (timedelta(seconds=1), True),
        (timedelta(0), False),
        (-timedelta(seconds=1), False),
        (LONGEST_CHECK + timedelta(seconds=1), False),  # a clock that was put back
    ],
)
def test_a_check_that_was_overtaken_says_nothing(before: timedelta, older: bool) -> None:
    """It looked at both records before the one on record did; a first check is overtaken by none."""
    present = apply(standing("pending"), found("pass"), POLICY).standing
    seen = found("fail", NOW - before)
    assert overtaken(present, seen) is older
    newer_in_one = msgspec.structs.replace(seen, dkim=found("pass", NOW + SECOND).dkim)
    assert not overtaken(present, newer_in_one)
    assert not overtaken(standing("pending"), seen)


def test_a_check_that_looked_later_counts_though_it_began_before_the_other_one_was_over() -> None:
    """One that waits long for something else ends late: what another saw meanwhile is newer all the same."""
    slow = msgspec.structs.replace(found("fail"), at=NOW + MINUTE)
    present = apply(standing("pending"), slow, POLICY).standing
    assert present.checked_at == NOW + MINUTE
    assert not overtaken(present, found("pass", NOW + SECOND))


@pytest.mark.parametrize("state", get_args(StandingState))
def test_a_pass_verifies_from_every_state_and_ends_the_run(state: StandingState) -> None:
    """One good check is enough to send again."""
    before = standing(state, failures=7, failing_since=NOW - MINUTE, checked_at=NOW - MINUTE, unknown_since=NOW)
    after, moved_from, _ = apply(before, found("pass"), POLICY)
    assert (after.state, after.failures, after.failing_since, after.unknown_since) == ("verified", 0, None, None)
    assert moved_from == (None if state == "verified" else state)


def test_a_pending_configuration_stays_pending_while_it_fails() -> None:
    """What never verified is not suspended."""
    steps = run(standing("pending"), *FAILING * 20)
    assert {step.state for step in steps} == {"pending"}
    assert steps[-1].reason == "SPF fail. A change in DNS may take up to 72 hours to be seen everywhere."


def test_a_new_domain_is_verified_only_if_it_exists() -> None:
    """Without address and exchanger it waits and says why; one that was verified is only told so."""
    gone = msgspec.structs.replace(found("pass"), advice="The domain is not there.")
    waiting = apply(standing("pending"), gone, POLICY).standing
    assert (waiting.state, waiting.spf and waiting.spf.verdict) == ("pending", "fail")
    assert waiting.reason.startswith("The domain is not there. A change")
    assert apply(waiting, found("pass"), POLICY).standing.state == "verified"

    before = standing("verified")
    after = apply(before, gone, POLICY).standing
    assert (after.state, after.reason) == ("verified", "The domain is not there.")
    lenient = msgspec.structs.replace(POLICY, domain_must_exist=False)
    assert apply(standing("pending"), gone, lenient).standing.state == "verified"


def test_a_run_suspends_only_with_enough_failures_and_enough_time() -> None:
    """Three failures in half an hour do not suspend, nor do two in an hour and more; it takes both."""
    steps = run(standing("verified"), *FAILING * 8)
    assert [step.state for step in steps] == ["degraded"] * 6 + ["suspended"] * 2
    few = run(
        standing("verified"),
        ("fail", MINUTE),
        ("unknown", 29 * MINUTE),
        ("unknown", 29 * MINUTE),
        ("fail", 29 * MINUTE),
    )
    assert few[-1].state == "degraded"


def test_one_success_in_between_starts_the_run_again() -> None:
    """Failures count only in a row."""
    steps = run(standing("verified"), *FAILING * 6, ("pass", MINUTE), *FAILING * 6)
    assert steps[-1].state == "degraded"
    assert steps[-1].failures == 6


def test_either_record_failing_is_a_failure_even_if_the_other_is_unknown() -> None:
    """A definitive failure of one outweighs not knowing the other; unknown outweighs pass."""
    assert found("pass", dkim="fail").verdict == "fail"
    assert found("unknown", dkim="fail").verdict == "fail"
    assert found("pass", dkim="unknown").verdict == "unknown"


@pytest.mark.parametrize("gap", [timedelta(days=3), timedelta(days=-1), timedelta(minutes=31)])
def test_after_a_gap_in_the_checks_a_run_starts_again(gap: timedelta) -> None:
    """A verifier that was down for days, and clocks that jump either way, suspend nobody at the next failure."""
    degraded = run(standing("verified"), *FAILING * 6)[-1]
    assert degraded.checked_at is not None
    after = apply(degraded, found("fail", degraded.checked_at + gap), POLICY).standing
    assert (after.state, after.failures) == ("degraded", 1)
    assert after.failing_since == degraded.checked_at + gap


def test_after_a_gap_fresh_failures_still_suspend() -> None:
    """Starting again is not letting off."""
    degraded = run(standing("verified"), *FAILING * 6)[-1]
    at, present = NOW + timedelta(days=4), degraded
    states = []
    for _ in range(8):
        present = apply(present, found("fail", at), POLICY).standing
        states.append(present.state)
        at += 10 * MINUTE
    assert states == ["degraded"] * 6 + ["suspended"] * 2


VERDICTS = st.sampled_from(get_args(Verdict))
GAPS = st.integers(-3 * 24 * 60, 3 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes))


@given(st.lists(st.tuples(VERDICTS, GAPS), max_size=30))
def test_nobody_is_suspended_without_fresh_consecutive_failures(checks: list[tuple[Verdict, timedelta]]) -> None:
    """Whatever the clock does: before every suspension stand enough failures, no success, and no gap among them."""
    at, present = NOW, standing("verified")
    history: list[tuple[Verdict, datetime]] = []
    for verdict, gap in checks:
        at += gap
        present, moved_from, _ = apply(present, found(verdict, at), POLICY)
        history.append((verdict, at))
        if moved_from is not None and present.state == "suspended":
            run_of: list[datetime] = []
            later: datetime | None = None
            for past, when in reversed(history):
                if past == "pass" or (later is not None and not timedelta(0) <= later - when <= POLICY.stale_after):
                    break
                later = when
                if past == "fail":
                    run_of.append(when)
            assert len(run_of) >= POLICY.failures_to_suspend
            assert run_of[0] - run_of[-1] >= POLICY.grace


@pytest.mark.parametrize(
    ("present", "coming", "verdict"),
    [
        ("fail", "pass", "pass"),
        ("unknown", "pass", "pass"),
        ("pass", "fail", "pass"),
        ("fail", "fail", "fail"),
        ("fail", "unknown", "fail"),
    ],
)
def test_during_a_rotation_the_key_that_signs_decides(present: Verdict, coming: Verdict, verdict: Verdict) -> None:
    """Mail is signed with the next key once it passes: a customer who replaced the old record has done no wrong."""
    seen = Observation(verdict=coming, detail=f"next {coming}.", name="next", at=NOW)
    inspection = msgspec.structs.replace(found("pass", dkim=present), next_dkim=seen)
    assert inspection.verdict == verdict
    after = apply(standing("verified"), inspection, POLICY).standing
    assert after.state == ("degraded" if verdict == "fail" else "verified")
    assert (after.dkim, after.next_dkim) == (inspection.dkim, seen)


def test_a_key_once_seen_stays_in_use_while_nobody_answers_for_it() -> None:
    """What was seen of the next key goes only by an answer, or with the key itself: mail is signed by it."""

    def looked(verdict: Verdict, minutes: int, name: str = "next") -> Inspection:
        seen = Observation(verdict=verdict, detail=f"{verdict}.", name=name, at=NOW + minutes * MINUTE)
        return msgspec.structs.replace(found("pass", NOW + minutes * MINUTE), next_dkim=seen, ed25519=seen)

    passed = apply(standing("verified"), looked("pass", 1), POLICY).standing
    silent = apply(passed, looked("unknown", 2), POLICY).standing
    assert (silent.next_dkim, silent.ed25519) == (passed.next_dkim, passed.ed25519)
    replaced = msgspec.structs.replace(
        looked("unknown", 3), dkim=Observation(verdict="fail", detail="gone.", name="DKIM", at=NOW)
    )
    unknown = apply(silent, replaced, POLICY).standing
    assert (unknown.state, unknown.unknown_since) == ("verified", replaced.at)
    back = apply(standing("suspended", next_dkim=passed.next_dkim), replaced, POLICY).standing
    assert back.state == "suspended"
    gone = apply(silent, looked("fail", 3), POLICY).standing
    assert gone.next_dkim is not None
    assert gone.next_dkim.verdict == "fail"
    another = apply(passed, looked("unknown", 2, "another"), POLICY).standing
    assert another.next_dkim is not None
    assert another.next_dkim.verdict == "unknown"
    assert apply(silent, found("pass", NOW + 3 * MINUTE), POLICY).standing.next_dkim is None
