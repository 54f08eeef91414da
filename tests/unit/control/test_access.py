"""Which networks rules admit, and why an address is admitted or not."""

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from services.control.core import access
from shared.contract.records import Rule, RuleContext
from tests.unit.control.test_access_rules import NOW, zone


def rule(*zones: str, mode: str = "enabled") -> Rule:
    contexts = (RuleContext(zones=zones),)
    return Rule(id="r", instance="i", contexts=contexts, created_at=NOW, updated_at=NOW, enforcement=mode)  # type: ignore[arg-type]


def test_without_an_enabled_rule_nobody_is_allowed() -> None:
    """Default deny; rules that report or are disabled open nothing."""
    zones = {"z": zone("z", "192.0.2.0/24")}
    assert access.allowed_subnets([], zones) == ()
    assert access.allowed_subnets([rule("z", mode="report"), rule("z", mode="disabled")], zones) == ()


def test_exclusions_are_taken_out_and_rules_restrict_each_other() -> None:
    """In any of the addresses and none of the excluded; admitted by every rule."""
    zones = {
        "a": zone("a", "192.0.2.0/29", "::ffff:198.51.100.1", excluded=("192.0.2.4-192.0.2.7",)),
        "b": zone("b", "192.0.2.2-192.0.2.3"),
    }
    assert access.allowed_subnets([rule("a")], zones) == ("192.0.2.0/30", "198.51.100.1")
    assert access.allowed_subnets([rule("a"), rule("b")], zones) == ("192.0.2.2/31",)
    assert access.allowed_subnets([rule("a", "b")], zones) == ("192.0.2.0/30", "198.51.100.1")
    assert access.allowed_subnets([rule("gone")], zones) == ()


ADDRESSES = st.integers(0, 255).map(lambda n: f"192.0.2.{n}")
ENTRIES = st.lists(
    st.one_of(
        ADDRESSES,
        st.tuples(ADDRESSES, ADDRESSES).map(lambda p: "-".join(sorted(p, key=ip_address))),
        st.tuples(ADDRESSES, st.integers(24, 32)).map(lambda p: str(ip_network(f"{p[0]}/{p[1]}", strict=False))),
    ),
    max_size=6,
)


@given(ENTRIES, ENTRIES, ADDRESSES)
def test_the_listed_subnets_are_the_admitted_addresses(added: list[str], removed: list[str], probe: str) -> None:
    """The list of allowed networks agrees with a naive evaluation for every address."""

    def within(entries: list[str]) -> bool:
        number = ip_address(probe)
        for text in entries:
            if "-" in text:
                low, high = (ip_address(part) for part in text.split("-"))
                if int(low) <= int(number) <= int(high):
                    return True
            elif number in ip_network(text):
                return True
        return False

    listed = access.allowed_subnets([rule("z")], {"z": zone("z", *added, excluded=tuple(removed))})
    assert any(ip_address(probe) in ip_network(text) for text in listed) == (within(added) and not within(removed))


def test_an_explanation_agrees_with_the_rules() -> None:
    """Every enabled rule must admit, at this endpoint; reporting rules are shown and do not count."""
    zones = {"a": zone("a", "192.0.2.0/24"), "b": zone("b", "192.0.2.7")}
    private = Rule(
        id="p",
        instance="i",
        contexts=(RuleContext(zones=("a",), endpoints=("private",)),),
        created_at=NOW,
        updated_at=NOW,
    )
    mapped = ip_address("::ffff:192.0.2.7")
    assert access.explain([], zones, mapped, "public")[0] is False
    assert "no rule is enabled" in access.explain([rule("a", mode="report")], zones, mapped, "public")[1]
    assert access.explain([rule("a"), rule("b")], zones, mapped, "public")[0] is True
    assert access.explain([rule("a"), rule("b")], zones, ip_address("192.0.2.8"), "public")[0] is False
    assert access.explain([private], zones, mapped, "private")[0] is True
    admitted, sentence, verdicts = access.explain([private], zones, mapped, "public")
    assert (admitted, "refused by rule p" in sentence, verdicts[0].zones) == (False, True, ())
