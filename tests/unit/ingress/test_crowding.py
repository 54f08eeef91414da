"""Who is a crowd: token buckets of configurations."""

from services.ingress.core import crowding
from services.ingress.core.crowding import Crowding
from shared.contract.subjects import calm_slots, slot_of


def test_a_burst_is_calm_and_what_follows_is_not() -> None:
    """Each configuration has a burst of its own; with time it is calm again, however long the crowd was."""
    seen = Crowding(burst=3, per_second=2.0)
    assert [seen.count("a", 10.0) for _ in range(5)] == [False, False, False, True, True]
    assert not seen.count("b", 10.0)
    for _ in range(1000):
        assert seen.count("a", 10.0)
    assert seen.count("a", 11.0)
    assert not seen.count("a", 13.0)


def test_a_steady_rate_below_the_calm_one_never_is() -> None:
    """Half of the rate for an hour."""
    seen = Crowding(burst=2, per_second=2.0)
    assert not any(seen.count("a", second * 1.0) for second in range(3600))


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """No time passes then."""
    seen = Crowding(burst=1, per_second=100.0)
    assert not seen.count("a", 10.0)
    assert seen.count("a", 5.0)


def test_few_are_remembered() -> None:
    """Those who have not sent for longest are forgotten, and are calm."""
    seen = Crowding(burst=1, per_second=0.001)
    for number in range(crowding.TENANTS_KEPT + 1):
        seen.count(f"c{number}", 0.0)
    assert not seen.count("c0", 0.0)
    assert seen.count(f"c{crowding.TENANTS_KEPT}", 0.0)


def test_slots_of_crowds_are_the_last_quarter() -> None:
    """Calm and crowded mail of any configuration never meet, but where there is one slot only."""
    names = [f"configuration-{number}" for number in range(200)]
    for slots in (2, 3, 4, 16, 256):
        calm = {slot_of(name, slots) for name in names}
        crowd = {slot_of(name, slots, crowded=True) for name in names}
        assert max(calm) < calm_slots(slots) <= min(crowd)
        assert max(crowd) < slots
    assert {slot_of(name, 1, crowded=crowded) for name in names for crowded in (True, False)} == {0}
    assert calm_slots(16) == 12
