"""Sets of IP addresses as spans of numbers: what the entries of zones stand for, added and taken from each other."""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)

from shared.contract.records import ZoneAddress
from shared.contract.spans import Span, merged

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def spans(entries: Iterable[ZoneAddress]) -> list[Span]:
    """Return the addresses of a zone's entries, in order and without overlap.

    Errors: `ValueError` says what is wrong with an entry.
    """
    found: list[Span] = []
    for entry in entries:
        first: Address
        last: Address
        if entry.type == "subnet":
            network = ip_network(entry.value, strict=True)
            first, last = network.network_address, network.broadcast_address
        elif entry.type == "ipRange":
            low, separator, high = entry.value.partition("-")
            if not separator:
                raise ValueError("the - is missing")
            first, last = ip_address(low.strip()), ip_address(high.strip())
            if first.version != last.version:
                raise ValueError("both ends must be of one IP version")
            if int(first) > int(last):
                raise ValueError("the first address must not be above the last")
        else:
            first = last = ip_address(entry.value)
        if "%" in entry.value:
            raise ValueError("a scope cannot be part of an address")
        first, last = unmapped(first), unmapped(last)
        if first.version != last.version:
            raise ValueError("it reaches beyond the IPv4-mapped addresses")
        found.append((first.version, int(first), int(last)))
    return merged(found)


def unmapped(address: Address) -> Address:
    """Return the IPv4 address that a mapped IPv6 address stands for (RFC 4291 §2.5.5.2), or the address itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def common(left: Iterable[Span], right: Sequence[Span]) -> list[Span]:
    """Return the addresses that are in both."""
    return [
        (version, max(first, other_first), min(last, other_last))
        for version, first, last in left
        for other_version, other_first, other_last in right
        if version == other_version and max(first, other_first) <= min(last, other_last)
    ]


def networks(span: Span) -> list[str]:
    """Return a span as addresses and subnets."""
    version, first, last = span
    found: Iterable[Network]
    if version == 4:
        found = summarize_address_range(IPv4Address(first), IPv4Address(last))
    else:
        found = summarize_address_range(IPv6Address(first), IPv6Address(last))
    return [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in found]
