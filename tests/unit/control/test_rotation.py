"""Rotation of signing keys: what may be begun and finished when, and what the operator's zone publishes."""

from datetime import UTC, datetime, timedelta

import msgspec

from services.control.core import rotation
from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Observation, Standing, Verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
OWN = Configuration(
    id="c", instance="i", name="n", domain="acme.example", selector="s1", dkim_value="v=DKIM1; p=one",
    spf_value="v=spf1 -all", created_at=NOW, updated_at=NOW,
)  # fmt: skip
DELEGATED = msgspec.structs.replace(OWN, dkim_delegated=True, dkim_zone="dkim.relay.example", spare_selector="s2")
NEXT = PublishedKey(selector="s2", value="v=DKIM1; p=two", since=NOW)


def standing(verdict: Verdict, name: str = "s2._domainkey.acme.example", at: datetime = NOW) -> Standing:
    seen = Observation(verdict=verdict, detail=f"It is {verdict}.", name=name, at=at)
    return Standing(
        configuration="c", instance="i", domain="acme.example", state="verified", reason="x", since=NOW, next_dkim=seen
    )


def test_one_rotation_at_a_time() -> None:
    """The one under way is finished or cancelled first."""
    assert rotation.begin_fault(OWN, NOW, WEEK, force=False) is None
    begun = rotation.begun(OWN, NEXT, by_itself=True, now=NOW)
    fault = rotation.begin_fault(begun, NOW, WEEK, force=True)
    assert fault is not None
    assert fault.code == "rotation_under_way"


def test_the_next_key_must_have_been_seen_where_it_is_to_be() -> None:
    """A pass of another selector, of an earlier key, or no pass, is not enough."""
    begun = rotation.begun(OWN, NEXT, by_itself=False, now=NOW)
    assert rotation.seen(begun, standing("pass"))
    assert not rotation.seen(begun, standing("fail"))
    assert not rotation.seen(begun, standing("unknown"))
    assert not rotation.seen(begun, standing("pass", "s9._domainkey.acme.example"))
    assert not rotation.seen(begun, standing("pass", at=NOW - timedelta(seconds=1)))
    assert not rotation.seen(begun, None)
    assert not rotation.seen(OWN, standing("pass"))
    assert "It is fail." in rotation.unseen_fault(begun, standing("fail").next_dkim).message


def test_a_finished_rotation_retires_the_old_key_and_swaps_the_selectors() -> None:
    """Of a domain of its own the old selector is given up; of a delegated one it is kept for the next rotation."""
    own = rotation.finished(rotation.begun(OWN, NEXT, by_itself=False, now=NOW), NOW)
    assert (own.selector, own.dkim_value, own.spare_selector, own.next_key) == ("s2", "v=DKIM1; p=two", "", None)
    assert own.retired_key == PublishedKey(selector="s1", value="v=DKIM1; p=one", since=NOW)
    delegated = rotation.finished(rotation.begun(DELEGATED, NEXT, by_itself=False, now=NOW), NOW)
    assert (delegated.selector, delegated.spare_selector) == ("s2", "s1")
    assert rotation.begin_fault(own, NOW, WEEK, force=False) is None


def test_the_selector_of_a_key_still_published_is_not_taken_again() -> None:
    """Mail under way is still verified with it; whoever lost a key may insist."""
    after = rotation.finished(rotation.begun(DELEGATED, NEXT, by_itself=False, now=NOW), NOW)
    fault = rotation.begin_fault(after, NOW + WEEK / 2, WEEK, force=False)
    assert fault is not None
    assert "2026-11-08 00:00 UTC" in fault.message
    assert rotation.begin_fault(after, NOW + WEEK / 2, WEEK, force=True) is None
    assert rotation.begin_fault(after, NOW + WEEK, WEEK, force=False) is None


def test_the_zone_has_every_key_that_a_receiver_may_need() -> None:
    """In use, next, retired for a while, and the second one; nothing of domains that publish themselves."""
    assert rotation.zone_keys(OWN, NOW, WEEK) == ()
    begun = rotation.begun(DELEGATED, NEXT, by_itself=False, now=NOW)
    assert [(key.name, key.use) for key in rotation.zone_keys(begun, NOW, WEEK)] == [
        ("s1.dkim.relay.example", "current"), ("s2.dkim.relay.example", "next"),
    ]  # fmt: skip
    second = PublishedKey(selector="e", value="v=DKIM1; k=ed25519; p=x", since=NOW)
    after = msgspec.structs.replace(rotation.finished(begun, NOW), ed25519_key=second)
    assert [(key.name.split(".")[0], key.use) for key in rotation.zone_keys(after, NOW, WEEK)] == [
        ("s2", "current"), ("s1", "retired"), ("e", "ed25519"),
    ]  # fmt: skip
    assert [key.use for key in rotation.zone_keys(after, NOW + WEEK, WEEK)] == ["current", "ed25519"]
    third = PublishedKey(selector="s1", value="v=DKIM1; p=three", since=NOW)
    again = rotation.begun(after, third, by_itself=False, now=NOW)
    assert [(key.use, key.value) for key in rotation.zone_keys(again, NOW, WEEK)][1] == ("next", "v=DKIM1; p=three")
