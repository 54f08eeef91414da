"""Access rules: default deny, every enabled rule must admit, and look-ups agree with a slow, plain reading."""

import datetime
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.access import (
    compile_access,
    entry_span,
    network_of,
    peer_address,
    source_named,
    source_of,
)
from shared.contract.records import Rule, RuleContext, Zone, ZoneAddress

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def zone(*addresses: str, excluded: tuple[str, ...] = (), name: str = "z", instance: str = "i") -> Zone:
    """Make a zone of subnets, ranges and addresses."""
    return Zone(
        id=name,
        instance=instance,
        name=name,
        addresses=tuple(entry(text) for text in addresses),
        excluded=tuple(entry(text) for text in excluded),
        created_at=AT,
        updated_at=AT,
    )


def entry(text: str) -> ZoneAddress:
    """Make an entry of the type the text looks like."""
    if "/" in text:
        return ZoneAddress(type="subnet", value=text)
    return ZoneAddress(type="ipRange" if "-" in text else "ipAddress", value=text)


def rule(*contexts: RuleContext, name: str = "r", enforcement: str = "enabled") -> Rule:
    """Make a rule."""
    return Rule(
        id=name,
        instance="i",
        contexts=contexts,
        created_at=AT,
        updated_at=AT,
        enforcement=enforcement,  # type: ignore[arg-type]
    )


def admits(rules: list[Rule], zones: list[Zone], address: str, endpoint: str = "public") -> bool:
    """Whether the compiled rules let an address in."""
    return not compile_access(rules, {each.id: each for each in zones}).denial(peer_address(address), endpoint)


IN_Z = RuleContext(zones=("z",))


def test_no_enabled_rule_admits_nobody() -> None:
    """Without an enabled rule nobody has access, whatever other rules say."""
    everybody = zone("0.0.0.0/0", "::/0")
    assert not admits([], [everybody], "192.0.2.1")
    assert not admits([rule(IN_Z, enforcement="report")], [everybody], "192.0.2.1")
    assert not admits([rule(IN_Z, enforcement="disabled")], [everybody], "192.0.2.1")
    assert not admits([rule()], [everybody], "192.0.2.1")


@pytest.mark.parametrize(
    ("entries", "address", "inside"),
    [
        (("192.0.2.1",), "192.0.2.1", True),
        (("192.0.2.1",), "192.0.2.2", False),
        (("192.0.2.0/24",), "192.0.2.255", True),
        (("192.0.2.0/24",), "192.0.3.0", False),
        (("192.0.2.1/24",), "192.0.2.1", False),  # host bits set: not a network, admits nobody
        (("192.0.2.5-192.0.2.9",), "192.0.2.9", True),
        (("192.0.2.5-192.0.2.9",), "192.0.2.10", False),
        (("192.0.2.9-192.0.2.5",), "192.0.2.6", False),
        (("192.0.2.1",), "::ffff:192.0.2.1", True),
        (("::ffff:192.0.2.0/120",), "192.0.2.77", True),
        (("2001:db8::/64",), "2001:db8::1", True),
        (("2001:db8::/64",), "2001:db8:0:1::1", False),
        (("0.0.0.0/0",), "203.0.113.9", True),
        (("0.0.0.0/0",), "2001:db8::1", False),
        (("nonsense",), "192.0.2.1", False),
    ],
)
def test_entries(entries: tuple[str, ...], address: str, inside: bool) -> None:
    """Each kind of entry covers exactly its addresses."""
    assert admits([rule(IN_Z)], [zone(*entries)], address) is inside


def test_exclusions() -> None:
    """Excluded addresses stay outside, and an unreadable exclusion closes the zone."""
    holed = zone("192.0.2.0/24", excluded=("192.0.2.10-192.0.2.20",))
    assert admits([rule(IN_Z)], [holed], "192.0.2.9")
    assert not admits([rule(IN_Z)], [holed], "192.0.2.10")
    assert not admits([rule(IN_Z)], [holed], "192.0.2.20")
    assert admits([rule(IN_Z)], [holed], "192.0.2.21")
    assert not admits([rule(IN_Z)], [zone("192.0.2.0/24", excluded=("?",))], "192.0.2.9")


def test_every_rule_must_admit() -> None:
    """An address has to pass all enabled rules; contexts of one rule are alternatives."""
    wide, narrow = zone("192.0.2.0/24", name="wide"), zone("192.0.2.7", name="narrow")
    both = [rule(RuleContext(zones=("wide",)), name="1"), rule(RuleContext(zones=("narrow",)), name="2")]
    assert admits(both, [wide, narrow], "192.0.2.7")
    assert not admits(both, [wide, narrow], "192.0.2.8")
    either = [rule(RuleContext(zones=("wide",)), RuleContext(zones=("narrow",)))]
    assert admits(either, [wide, narrow], "192.0.2.8")


def test_endpoints() -> None:
    """A context for the private endpoint does not open the public one."""
    inside = [rule(RuleContext(zones=("z",), endpoints=("private",)))]
    assert admits(inside, [zone("192.0.2.0/24")], "192.0.2.1", "private")
    assert not admits(inside, [zone("192.0.2.0/24")], "192.0.2.1", "public")


def test_foreign_zone() -> None:
    """A zone of another instance opens nothing."""
    assert not admits([rule(IN_Z)], [zone("0.0.0.0/0", instance="other")], "192.0.2.1")


def test_networks() -> None:
    """Addresses are counted with their /24 or /56."""
    assert network_of(IPv4Address("192.0.2.77")) == "192.0.2.0/24"
    assert network_of(IPv6Address("2001:db8:1:2ff::1")) == "2001:db8:1:200::/56"
    assert peer_address("fe80::1%eth0") == IPv6Address("fe80::1")
    assert peer_address("not an address") is None


networks = st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)).map(
    lambda pair: str(ip_network(f"{IPv4Address(pair[0])}/{pair[1]}", strict=False))
)


@given(st.lists(networks, max_size=6), st.lists(networks, max_size=3), st.integers(0, 2**32 - 1))
def test_agrees_with_plain_reading(included: list[str], excluded: list[str], number: int) -> None:
    """The compiled look-up gives what going through all networks gives."""
    address = IPv4Address(number)
    # Half of the time look at an edge of a network, where mistakes live.
    if included and number % 2:
        network = ip_network(included[number % len(included)])
        address = IPv4Address((int(network.network_address), int(network.broadcast_address))[number % 3 % 2])
    plain = any(address in ip_network(n) for n in included) and not any(address in ip_network(n) for n in excluded)
    assert admits([rule(IN_Z)], [zone(*included, excluded=tuple(excluded))], str(address)) is plain


def test_span_of_everything() -> None:
    """The whole of IPv6 is one span."""
    assert entry_span(entry("::/0")) == (6, 0, 2**128 - 1)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_one_client(address: str, source: str) -> None:
    """Any address of an IPv6 network of one host is that host's: taking another one is free."""
    parsed = peer_address(address)
    assert parsed is not None
    assert source_of(parsed) == source == source_named(address)
    assert source_named("") == ""
