"""The deprecated allow list: one form, a date, and a migration that can be repeated."""

from datetime import UTC, datetime, timedelta

import msgspec

from services.control.core.allow_list import (
    Migration,
    context_of,
    entries,
    in_force,
    migration,
    zone_address,
    zone_name,
)
from shared.contract.records import Configuration, Rule, Zone

AT = datetime(2026, 1, 1, tzinfo=UTC)
LISTED = Configuration(
    id="1234567890", instance="i", name="c", domain="shop.example", selector="s", dkim_value="", spf_value="",
    created_at=AT, updated_at=AT, allowed_addresses=("192.0.2.1", "198.51.100.0/24"),
    allowed_until=AT + timedelta(days=183),
)  # fmt: skip
BARE = msgspec.structs.replace(LISTED, id="2", domain="bare.example", allowed_addresses=(), allowed_until=None)


def rule(name: str, *zones: str, enforcement: str = "enabled") -> Rule:
    """Make a rule that lets zones in."""
    return Rule(
        id=name, instance="i", contexts=(context_of(zones),), created_at=AT, updated_at=AT,
        enforcement=enforcement,  # type: ignore[arg-type]
    )  # fmt: skip


def made(name: str = "z", *addresses: str) -> Zone:
    """Make the zone the list becomes."""
    listed = tuple(zone_address(each) for each in addresses or LISTED.allowed_addresses)
    return Zone(id=name, instance="i", name=zone_name(LISTED), addresses=listed, created_at=AT, updated_at=AT)


def test_entries_have_one_form() -> None:
    """Host bits pass, as the lists that are imported have them; what is no address is named."""
    listed, faults = entries(
        ["44.255.224.210/20", "192.0.2.1/32", "192.0.2.1", "::ffff:192.0.2.0/120", "2001:db8::/32"]
    )
    assert (listed, faults) == (("44.255.224.0/20", "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"), ())
    _, faults = entries(["192.0.2.1", "office", "10.0.0.1-10.0.0.9"])
    assert [fault.field for fault in faults] == ["subnets[1]", "subnets[2]"]
    assert [fault.code for fault in entries(["192.0.2.1"] * 1001)[1]] == ["too_many_addresses"]


def test_a_list_is_in_force_until_its_date() -> None:
    """To the second."""
    end = AT + timedelta(days=183)
    assert in_force(LISTED, end - timedelta(seconds=1)) == LISTED.allowed_addresses
    assert in_force(LISTED, end) == ()
    assert in_force(BARE, AT) == ()


def test_without_a_rule_one_is_made() -> None:
    """Rules that only report, or are disabled, let nobody in: they do not count."""
    planned = migration([LISTED, BARE], {}, [rule("r", "z", enforcement="report")])
    (zone,) = planned.zones
    assert (zone.name, zone.zone, zone.missing) == ("allowed shop-example 12345678", "", LISTED.allowed_addresses)
    assert [(step.rule, step.zones) for step in planned.rules] == [("", (zone.name,))]


def test_every_enabled_rule_has_to_let_them_in() -> None:
    """Of several rules every one must admit; one that lets the zone in already stays as it is."""
    planned = migration([LISTED], {"z": made()}, [rule("a", "office"), rule("b", "z"), rule("c", "office")])
    assert [(step.zone, step.missing) for step in planned.zones] == [("z", ())]
    assert [step.rule for step in planned.rules] == ["a", "c"]


def test_a_migration_that_broke_off_goes_on() -> None:
    """A zone that is there is completed; when everything is there only the list is left to be emptied."""
    planned = migration([LISTED], {"z": made("z", "192.0.2.1")}, [rule("a", "z")])
    assert (planned.zones[0].missing, planned.rules) == (("198.51.100.0/24",), ())
    assert migration([BARE], {"z": made()}, [rule("a", "z")]) == Migration()
