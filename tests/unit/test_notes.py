"""Notes that are written now and then: the newest of each key, no key twice in an interval, never too many."""

from shared.bus.notes import Notebook


def test_a_key_is_due_once_in_an_interval_with_its_newest_note() -> None:
    """The first note goes at once, the next ones wait, and only the last of them is written."""
    notes: Notebook[str] = Notebook(60.0, 10)
    notes.note("a", "first")
    assert notes.due(100.0) == [("a", "first")]
    notes.note("a", "second")
    notes.note("a", "third")
    notes.note("b", "other")
    assert notes.due(159.0) == [("b", "other")]
    assert notes.due(160.0) == [("a", "third")]
    assert notes.due(300.0) == []


def test_everything_is_due_at_the_end() -> None:
    """Who leaves writes what still waits."""
    notes: Notebook[str] = Notebook(60.0, 10)
    notes.note("a", "first")
    notes.due(0.0)
    notes.note("a", "last")
    assert notes.due(1.0) == []
    assert notes.due(1.0, everything=True) == [("a", "last")]


def test_what_could_not_be_written_waits_again() -> None:
    """A failure gives the note back, but a newer one stays."""
    notes: Notebook[str] = Notebook(60.0, 10)
    notes.note("a", "old")
    notes.due(0.0)
    notes.failed("a", "old")
    assert notes.due(1.0) == [("a", "old")]
    notes.note("a", "new")
    notes.failed("a", "old")
    assert notes.due(2.0) == [("a", "new")]


def test_keys_are_bounded() -> None:
    """Of too many keys the oldest are let go."""
    notes: Notebook[int] = Notebook(60.0, 3)
    for number in range(10):
        notes.note(str(number), number)
    assert [key for key, _ in notes.due(0.0)] == ["7", "8", "9"]
    for number in range(10):
        notes.note(str(number), number)
        notes.due(1.0)
    assert len(notes) <= 3
