"""Whose turn it is: lanes, slots and tenants share the places in delivery."""

from typing import NamedTuple

from services.delivery.core.fair_queue import MARKETING_SHARE, FairQueue
from shared.contract.subjects import calm_slots

SLOTS = 4
FAST, SLOW = "transactional", "marketing"


class One(NamedTuple):
    """A message that waits."""

    configuration: str
    number: int = 0


def queue(places: int = 100, tenant_places: int = 100) -> FairQueue[One]:
    return FairQueue[One](SLOTS, places, tenant_places)


def turns(fair: FairQueue[One], count: int) -> list[str]:
    begun = [fair.next(1.0, crowds=True) for _ in range(count)]
    return [one.configuration if one else "-" for one in begun]


def test_slots_take_turns() -> None:
    fair = queue()
    fair.add(FAST, 0, [One("flood", n) for n in range(5)])
    fair.add(FAST, 1, [One("other")])
    assert turns(fair, 3) == ["flood", "other", "flood"]
    assert (fair.taken, len(fair), fair.waiting(FAST, 0)) == (3, 3, 3)


def test_transactional_goes_first_but_for_the_share_of_marketing() -> None:
    fair = queue()
    fair.add(FAST, 0, [One("fast", n) for n in range(MARKETING_SHARE)])
    fair.add(SLOW, 0, [One("slow", n) for n in range(MARKETING_SHARE)])
    assert turns(fair, MARKETING_SHARE) == ["fast"] * (MARKETING_SHARE - 1) + ["slow"]


def test_a_tenant_has_no_more_than_its_places_and_blocks_nobody() -> None:
    fair = queue(places=4, tenant_places=2)
    fair.add(FAST, 0, [One("flood", n) for n in range(4)] + [One("other")])
    assert turns(fair, 4) == ["flood", "flood", "other", "-"]
    fair.leave(One("flood"))
    assert turns(fair, 1) == ["flood"]


def test_the_last_places_are_left_to_others() -> None:
    fair = queue(places=3, tenant_places=3)
    fair.add(FAST, 0, [One("flood", n) for n in range(3)] + [One("other")])
    assert turns(fair, 4) == ["flood", "flood", "other", "-"]


def test_no_place_is_left() -> None:
    fair = queue(places=1)
    fair.add(FAST, 0, [One("a"), One("b")])
    assert turns(fair, 2) == ["a", "-"]
    fair.leave(One("a"))
    assert turns(fair, 1) == ["b"]


def test_crowds_wait_while_the_loop_is_busy() -> None:
    fair = queue()
    fair.add(FAST, calm_slots(SLOTS), [One("crowd")])
    assert fair.next(1.0, crowds=False) is None
    assert fair.next(1.0, crowds=True) == One("crowd")


def test_what_is_blocked_leaves_a_queue_that_stood_still() -> None:
    fair = queue(tenant_places=1)
    fair.add(FAST, 0, [One("flood", 1), One("flood", 2), One("other")])
    assert fair.next(10.0, crowds=True) == One("flood", 1)
    assert fair.blocked(FAST, 0, since=9.9) == []
    assert fair.blocked(FAST, 0, since=10.0) == [One("flood", 2)]
    assert list(fair.rest()) == [One("other")]
    assert len(fair) == 0
