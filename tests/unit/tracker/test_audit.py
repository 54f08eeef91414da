"""The audit's decisions: who is absent, who is looked at, and when an alarm is raised."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.tracker.core.audit import (
    NAMED,
    Alarm,
    OpenMessage,
    Path,
    absent,
    add_lying,
    choose,
    judge,
    named,
    unannounced,
)
from shared.contract.subjects import Place
from shared.mail.ids import new_queue_id

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


def message(queue_id: str, at: datetime = NOON) -> OpenMessage:
    return OpenMessage(queue_id=queue_id, instance="i", configuration="c", accepted_at=at, accepted_known=True)


def test_every_subject_of_the_path_counts_and_quarantine_counts_apart() -> None:
    """Ready, later, held, due and quarantine are all places; anything else is none."""
    places = [Place(0, "transactional", 1, "c", f"Q{n}") for n in range(6)]
    path = Path(queued=set(), quarantined=set())
    add_lying(path, [places[0].ready, places[1].later, places[2].held, places[3].due, places[3].later])
    add_lying(path, [places[4].quarantine, "postlane.other"])
    assert path.queued == {"Q0", "Q1", "Q2", "Q3"}
    assert path.quarantined == {"Q4"}
    assert [f"Q{n}" in path for n in range(6)] == [True, True, True, True, True, False]


def test_a_message_is_absent_once_it_is_old_enough_and_nowhere() -> None:
    """What lies on the path or is still on its way into the database is not asked about."""
    path = Path(queued={"Q1"}, quarantined={"Q2"})
    found = absent([message("Q1"), message("Q2"), message("Q3"), message("Q4", LATER)], path, LATER)
    assert [each.queue_id for each in found] == ["Q3"]


def test_a_young_message_may_wait_for_its_acceptance() -> None:
    """The time in the queue ID decides."""
    old, young = (new_queue_id(int(at.timestamp() * 1000), bytes(13)) for at in (NOON, LATER))
    assert unannounced({young, old}, LATER) == [old]


def test_an_alarm_needs_two_rounds_running() -> None:
    """Absent once: suspect. Absent twice: missing. Found in between: neither."""
    candidates = frozenset({"Q1", "Q2"})
    first = judge(Alarm(), candidates, {"Q1": True, "Q2": True}, NOON)
    assert first == Alarm(suspects=candidates)
    second = judge(first, candidates, {"Q1": True, "Q2": False}, LATER)
    assert second == Alarm(missing={"Q1": LATER}, raised=("Q1",))
    third = judge(second, candidates, {"Q1": True, "Q2": True}, LATER)
    assert third == Alarm(suspects=frozenset({"Q2"}), missing={"Q1": LATER})


def test_a_missing_message_stays_missing_until_it_is_accounted_for() -> None:
    """Not being looked at clears nothing; being found, or no longer being a candidate, does."""
    known = Alarm(missing={"Q1": NOON, "Q2": NOON, "Q3": NOON})
    after = judge(known, {"Q1", "Q2"}, {"Q2": False}, LATER)
    assert after.missing == {"Q1": NOON}
    assert after.cleared == ("Q2", "Q3")


@given(st.sets(st.text("ABC", min_size=1, max_size=3)), st.integers(1, 4))
def test_in_turn_every_candidate_is_looked_at_twice_running(candidates: set[str], limit: int) -> None:
    """Whatever the bound, all that is really gone is raised in the end, each in exactly one round."""
    alarm, after, raised = Alarm(), "", list[str]()
    for _ in range(4 * len(candidates) + 4):
        chosen = choose(candidates, alarm.suspects, after, limit)
        assert len(chosen) <= limit
        assert alarm.suspects <= set(chosen)
        after = chosen[-1] if chosen else after
        alarm = judge(alarm, candidates, dict.fromkeys(chosen, True), NOON)
        raised += alarm.raised
    assert sorted(raised) == sorted(candidates)


def test_an_alarm_names_a_bounded_number() -> None:
    """The rest is counted."""
    assert named(["Q2", "Q1"]) == "Q1, Q2"
    assert named(f"Q{n:02}" for n in range(NAMED + 3)).endswith("Q19 and 3 more")
