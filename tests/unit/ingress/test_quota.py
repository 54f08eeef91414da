"""Quotas: three spans, shared among processes, refilled on the clock."""

from services.ingress.core.quota import DAY, HOUR, PARTS, Rates, Tally, Told, Wait, part_of

NOON = 20_000.0 * DAY + 12 * HOUR


def told(at: float, key: str = "c", **counts: float) -> Told:
    """Make what a sibling tells of one key."""
    return Told(
        at,
        {key: counts.get("rate", 0.0)},
        {key: int(counts.get("hour", 0))},
        {key: int(counts.get("day", 0))},
        {f"{key} since": int(counts.get("held", 0))},
    )


def test_an_hour_starts_anew_on_the_clock() -> None:
    """The messages of an hour go through, the next one waits for the hour's end."""
    tally, rates = Tally(), Rates(per_hour=2)
    for _ in range(2):
        assert tally.wait("c", rates, NOON + 600) is None
        tally.take("c", rates, NOON + 600)
    assert tally.wait("c", rates, NOON + 600) == Wait("2 messages an hour", 3_000)
    assert tally.wait("other", rates, NOON + 600) is None
    assert tally.wait("c", rates, NOON + HOUR) is None


def test_a_day_outlasts_its_hours() -> None:
    """A day's quota is still used up in the next hour, and is full again at midnight of UTC."""
    tally, rates = Tally(), Rates(per_hour=10, per_day=3)
    for hour in range(3):
        tally.take("c", rates, NOON + hour * HOUR)
    assert tally.wait("c", rates, NOON + 3 * HOUR) == Wait("3 messages a day", 9 * HOUR)
    assert tally.wait("c", rates, NOON + 12 * HOUR) is None


def test_a_second_refills_evenly() -> None:
    """One second's messages may go at once; half of them half a second later."""
    tally, rates = Tally(), Rates(per_second=4)
    for _ in range(4):
        assert tally.wait("c", rates, NOON) is None
        tally.take("c", rates, NOON)
    assert tally.wait("c", rates, NOON) == Wait("4 messages a second", 1)
    tally.take("c", rates, NOON + 0.5)
    tally.take("c", rates, NOON + 0.5)
    assert tally.wait("c", rates, NOON + 0.5) is not None


def test_siblings_count() -> None:
    """What others have accepted in this hour and day is spent; what they told of an earlier hour is not."""
    tally, rates = Tally(), Rates(per_hour=10, per_day=100)
    tally.heard("s1", part_of("c"), told(NOON, hour=4, day=50))
    tally.heard("s2", part_of("c"), told(NOON - HOUR, hour=9, day=20))
    assert tally.spent("c", NOON + 1) == (4, 70)
    tally.heard("s1", part_of("c"), told(NOON + 2, hour=10, day=56))
    assert tally.wait("c", rates, NOON + 2) is not None
    tally.heard("s1", part_of("c"), None)
    assert tally.spent("c", NOON + 2) == (0, 20)


def test_a_busy_sibling_takes_its_part_of_the_second() -> None:
    """A rate that a sibling uses at present is not given twice; each keeps an equal part whatever others tell."""
    tally, rates = Tally(), Rates(per_second=10)
    tally.heard("s1", part_of("c"), told(NOON, rate=100.0))
    sent = 0
    while tally.wait("c", rates, NOON) is None:
        tally.take("c", rates, NOON)
        sent += 1
    assert sent == 5
    assert tally.wait("c", rates, NOON + 10) is None, "the sibling has been silent, its rate is forgotten"


def test_what_was_not_stored_is_given_back() -> None:
    """A message the bus did not take costs no quota."""
    tally, rates = Tally(), Rates(per_hour=1)
    tally.take("c", rates, NOON)
    tally.give("c")
    assert tally.wait("c", rates, NOON) is None
    tally.give("c")
    assert tally.spent("c", NOON) == (0, 0)


def test_held_mail_is_counted_for_one_suspension() -> None:
    """All processes' held messages count, those of an earlier suspension do not."""
    tally = Tally()
    tally.heard("s1", part_of("c"), told(NOON, held=3))
    tally.hold("c", "before", 100)
    tally.hold("c", "since", 100)
    assert tally.held("c", "since") == 4
    assert tally.held("c", "before") == 0
    assert tally.held("c", "later") == 0
    tally.release("c", "since")
    tally.release("c", "before")
    assert tally.held("c", "since") == 3


def test_only_changes_are_told() -> None:
    """What is told is what was counted; without a quota nothing is counted."""
    tally = Tally()
    tally.take("c", Rates(), NOON)
    assert tally.changed == set()
    tally.take("c", Rates(per_hour=5), NOON)
    assert tally.changed == {part_of("c")}
    assert tally.told(part_of("c"), NOON).this_hour == {"c": 1}
    assert tally.changed == set()
    assert tally.told((part_of("c") + 1) % PARTS, NOON).this_hour == {}


def test_siblings_are_told_at_once_when_little_is_left() -> None:
    """Far from its end a quota is told now and then; near to it each message is."""
    tally, rates = Tally(), Rates(per_hour=100)
    hurried = []
    for number in range(100):
        tally.take("c", rates, NOON)
        if tally.hurry:
            hurried.append(number + 1)
            tally.told(part_of("c"), NOON)
    assert hurried[:4] == [12, 22, 31, 39]
    assert hurried[-8:] == list(range(93, 101))


def test_siblings_are_told_at_once_of_a_new_rate() -> None:
    """The first burst is told; the steady stream after it is not told again and again."""
    tally, rates = Tally(), Rates(per_second=40)
    for number in range(6):
        tally.take("c", rates, NOON + number * 0.001)
    assert tally.hurry == {part_of("c")}
    for number in range(200):
        if tally.hurry:
            tally.told(part_of("c"), NOON + number * 0.025)
        tally.take("c", rates, NOON + number * 0.025)
    assert tally.hurry == set()


def test_held_mail_is_told_again_every_day() -> None:
    """A suspension may last longer than an entry in the bucket."""
    tally = Tally()
    tally.hold("c", "since", 100)
    assert tally.told(part_of("c"), NOON).held == {"c since": 1}
    tally.wait("c", Rates(), NOON + 1)
    assert tally.changed == set()
    tally.wait("c", Rates(), NOON + DAY)
    assert tally.changed == {part_of("c")}


def test_a_clock_set_back_forgets_nothing() -> None:
    """Counts stay when the time goes backwards over the hour's border."""
    tally, rates = Tally(), Rates(per_hour=1)
    tally.take("c", rates, NOON + 1)
    assert tally.wait("c", rates, NOON - 1) is not None


def test_a_clock_that_was_far_ahead_closes_nothing_for_long() -> None:
    """After a day's leap ahead and back, the hour is again that of the clock."""
    tally, rates = Tally(), Rates(per_hour=1)
    tally.take("c", rates, NOON + DAY)
    assert tally.wait("c", rates, NOON) is None
    tally.take("c", rates, NOON)
    assert tally.wait("c", rates, NOON + 1) is not None
    assert tally.wait("c", rates, NOON + HOUR) is None
