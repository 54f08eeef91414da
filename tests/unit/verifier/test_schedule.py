"""When checks are due, and that many of them spread."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core.agenda import Agenda
from services.verifier.core.recheck import Intervals, first_check, next_check
from services.verifier.core.standing import fresh
from shared.contract.records import Configuration
from shared.contract.standing import Standing

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOURS = timedelta(hours=1)
INTERVALS = Intervals(
    pending=timedelta(minutes=1), pending_at_most=HOURS, verified=6 * HOURS, degraded=timedelta(minutes=5)
)
CONFIGURATION = Configuration(
    id="c-1", instance="i-1", name="n", domain="example.com", selector="s", dkim_value="", spf_value="",
    created_at=NOW, updated_at=NOW,
)  # fmt: skip


def standing(**fields: object) -> Standing:
    return msgspec.structs.replace(fresh(CONFIGURATION, NOW), **fields)


@given(st.integers(0, 100_000), st.floats(0, 0.999))
def test_a_verified_configuration_keeps_its_place_in_the_interval(minutes: int, chance: float) -> None:
    """The next check is between half an interval and one and a half away, and from then on exactly one apart."""
    verified = standing(state="verified")
    now = NOW + timedelta(minutes=minutes)
    first = next_check(verified, now, INTERVALS, chance)
    assert INTERVALS.verified / 2 <= first - now <= INTERVALS.verified * 1.5
    assert next_check(verified, first, INTERVALS, chance) - first == INTERVALS.verified


def test_ten_thousand_verified_at_the_same_moment_spread_evenly() -> None:
    """No minute of the interval has more than three times its share."""
    minutes = [0] * 360
    for number in range(10_000):
        name = str(UUID(int=number * 2**64 + 12345))
        due = next_check(standing(state="verified", configuration=name), NOW, INTERVALS, 0.5)
        minutes[int((due - NOW) / timedelta(minutes=1)) % 360] += 1
    assert max(minutes) <= 3 * 10_000 / 360
    assert min(minutes) > 0


def test_a_pending_configuration_is_checked_often_at_first_and_less_so_later() -> None:
    """The wait is a tenth of the age, within its limits."""
    pending = standing()
    waits = [next_check(pending, NOW + age, INTERVALS, 0.5) - NOW - age for age in (0 * HOURS, HOURS, 72 * HOURS)]
    assert waits == [timedelta(minutes=1), timedelta(minutes=6), HOURS]


def test_degraded_suspended_and_unknown_are_checked_soon() -> None:
    """Repair is noticed in minutes, not hours."""
    for fields in ({"state": "degraded"}, {"state": "suspended"}, {"state": "verified", "unknown_since": NOW}):
        wait = next_check(standing(**fields), NOW, INTERVALS, 0.999) - NOW
        assert timedelta(minutes=4) <= wait <= timedelta(minutes=6)


def test_the_first_checks_of_many_are_spread() -> None:
    """New configurations are checked within the spread."""
    assert first_check(NOW, timedelta(seconds=2), 0.5) == NOW + timedelta(seconds=1)


def test_an_agenda_gives_each_due_configuration_once_and_knows_only_its_latest_time() -> None:
    """Moving an entry forgets its earlier time; removing it forgets it."""
    agenda = Agenda()
    for name in "abcd":
        agenda.put(name, NOW)
    agenda.put("b", NOW + HOURS)
    agenda.put("c", NOW - HOURS)
    agenda.remove("d")
    assert agenda.take(NOW, 1) == ["c"]
    assert agenda.take(NOW, 9) == ["a"]
    assert agenda.take(NOW, 9) == []
    assert agenda.next_at() == NOW + HOURS
    assert len(agenda) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_an_agenda_never_loses_or_doubles_an_entry(moves: list[tuple[str, int]]) -> None:
    """However often entries are moved, each comes out once, at its last time, in order."""
    agenda, last = Agenda(), {}
    for name, minute in moves * 20:
        agenda.put(name, NOW + timedelta(minutes=minute))
        last[name] = minute
    taken = agenda.take(NOW + 2 * HOURS, 99)
    assert sorted(taken) == sorted(last)
    assert [last[name] for name in taken] == sorted(last.values())
