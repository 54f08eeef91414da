"""Zones and rules: what is refused, and what becomes of the rest."""

from datetime import UTC, datetime

import pytest

from services.control.core import access_rules as rules
from shared.contract.records import RuleAttribute, RuleContext, Zone, ZoneAddress

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def zone(identity: str, *addresses: str, excluded: tuple[str, ...] = ()) -> Zone:
    def entry(text: str) -> tuple[str, str]:
        return ("subnet" if "/" in text else "ipRange" if "-" in text else "ipAddress", text)

    return Zone(
        id=identity,
        instance="i",
        name=identity,
        addresses=rules.zone_addresses(entry(a) for a in addresses),
        excluded=rules.zone_addresses(entry(a) for a in excluded),
        created_at=NOW,
        updated_at=NOW,
    )


def attributes(**values: str) -> list[RuleAttribute]:
    return [RuleAttribute(name=name, value=value) for name, value in values.items()]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("ipAddress", "192.0.2.1"),
        ("ipAddress", "2001:db8::1"),
        ("ipAddress", "::ffff:192.0.2.1"),
        ("ipRange", "192.0.2.1-192.0.2.9"),
        ("ipRange", "2001:db8::1 - 2001:db8::9"),
        ("subnet", "192.0.2.0/24"),
        ("subnet", "::/0"),
    ],
)
def test_what_ingress_can_evaluate_is_accepted(kind: str, value: str) -> None:
    """Addresses, ranges and subnets of both IP versions."""
    assert rules.address_problem(kind, value) == ""


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("ipAddress", "192.0.2", "not an IP address"),
        ("ipAddress", "fe80::1%eth0", "not an IP address"),
        ("ipAddress", "", "not an IP address"),
        ("ipRange", "192.0.2.9-192.0.2.1", "not a range"),
        ("ipRange", "192.0.2.1-2001:db8::1", "not a range"),
        ("ipRange", "192.0.2.1", "not a range"),
        ("subnet", "192.0.2.7/24", "did you mean 192.0.2.0/24"),
        ("subnet", "192.0.2.0/33", "not a subnet"),
        ("subnet", "::/80", "reaches beyond the IPv4-mapped"),
        ("subnet", "fe80::%1/64", "a scope cannot be part"),
        ("ipRange", "192.0.2.1" + " " * 100 + "-192.0.2.9", "at most 100 characters"),
        ("vpc", "crn:x", "cannot be enforced"),
        ("serviceRef", "", "cannot be enforced"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_cure(kind: str, value: str, said: str) -> None:
    """An entry that ingress could not read would silently admit nobody."""
    assert said in rules.address_problem(kind, value)


def test_a_zone_lists_all_its_faults() -> None:
    """Name, description and each entry."""
    faults = rules.zone_faults("a/b", "x" * 301, [("subnet", "x")], [("ipAddress", "y")])
    assert [fault.field for fault in faults] == ["name", "description", "addresses[0]", "excluded[0]"]


def test_contexts_name_zones_and_endpoints() -> None:
    """Several zones with commas are any of them; what was written is kept."""
    zones = {"z1": zone("z1"), "z2": zone("z2")}
    written = attributes(networkZoneId="z1, z2", endpointType="private")
    contexts, faults = rules.rule_contexts([written], zones, "i")
    assert faults == ()
    assert contexts == (RuleContext(zones=("z1", "z2"), endpoints=("private",), written=tuple(written)),)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        (attributes(networkZoneId="z1") * 2, "duplicate_context_attribute"),
        (attributes(networkZoneId="z1", mfa="LEVEL1"), "unsupported_attribute"),
        (attributes(endpointType="public"), "zone_missing"),
        (attributes(networkZoneId="foreign"), "zone_not_found"),
        (attributes(networkZoneId="unknown"), "zone_not_found"),
        (attributes(networkZoneId="z1", endpointType="direct"), "invalid_endpoint_type"),
        (attributes(networkZoneId="z1", endpointType=" ,"), "invalid_endpoint_type"),
        ([RuleAttribute(name="networkZoneId", value="z1", operator="stringNotEquals")], "unsupported_operator"),
        (attributes(networkZoneId="z1," * 40_000), "contexts_too_long"),
    ],
)
def test_a_context_that_cannot_be_enforced_is_refused(written: list[RuleAttribute], code: str) -> None:
    """What would match nothing, or be ignored, is said instead."""
    foreign = Zone(id="foreign", instance="j", name="x", addresses=(), created_at=NOW, updated_at=NOW)
    _, faults = rules.rule_contexts([written], {"z1": zone("z1"), "foreign": foreign}, "i")
    assert [fault.code for fault in faults] == [code]


def test_a_rule_protects_the_smtp_interface_of_one_account() -> None:
    """The account is the instance; other services and attributes are refused."""
    account, faults = rules.rule_account([attributes(accountId="i", serviceName="event-notifications")])
    assert (account, faults) == ("i", ())
    for wrong in (
        attributes(accountId="i", serviceName="iam"),
        attributes(accountId="not_an_id", serviceName="event-notifications"),
        attributes(accountId="i", serviceName="event-notifications", serviceInstance="j"),
        attributes(accountId="i", serviceName="event-notifications", region="us-south"),
        attributes(accountId="j") + attributes(accountId="i", serviceName="event-notifications"),
    ):
        assert len(rules.rule_account([wrong])[1]) == 1
    assert rules.rule_account([])[1] != ()


def test_only_the_smtp_api_type_is_enforced_here() -> None:
    """Both spellings of IBM's manual are read; a rule without operations would open nothing, so it is refused."""
    for name in rules.SMTP_API_TYPES:
        assert rules.rule_faults("", "enabled", [name]) == ()
    assert len(rules.SMTP_API_TYPES) == 2
    assert rules.rule_faults("", "enabled", [])[0].code == "unsupported_operations"
    assert rules.rule_faults("", "maybe", [rules.SMTP_API_TYPE])[0].code == "invalid_enforcement_mode"
    assert rules.rule_faults("", "enabled", [rules.SMTP_API_TYPE] * 101)[0].code == "too_many_api_types"


@pytest.mark.parametrize(("description", "good"), [("Büro, 2nd floor", True), ("a\x9b31mb", False), ("a\x7fb", False)])
def test_a_description_steers_no_terminal(description: str, good: bool) -> None:
    """IBM's pattern spans the controls between ASCII and Latin-1 too; whoever lists rules would be shown them."""
    assert (rules.rule_faults(description, "enabled", [rules.SMTP_API_TYPE]) == ()) is good
    assert (rules.zone_faults("z", description, (), ()) == ()) is good


def test_a_full_rule_has_room() -> None:
    """A thousand contexts of a zone and an endpoint each, and all zones of an instance in one context."""
    zones = {identity: zone(identity) for identity in (f"{n:032}" for n in range(rules.ZONES_PER_INSTANCE))}
    one = next(iter(zones))
    for contexts in (
        [attributes(networkZoneId=one, endpointType="public,private")] * rules.CONTEXTS_PER_RULE,
        [attributes(networkZoneId=",".join(zones))],
    ):
        assert rules.rule_contexts(contexts, zones, "i")[1] == ()


def test_addresses_become_records() -> None:
    """Types stay as they are written."""
    assert rules.zone_addresses([("subnet", "::/0")]) == (ZoneAddress(type="subnet", value="::/0"),)
