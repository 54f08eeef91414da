"""Who may reach an instance's SMTP interface: rules and zones, compiled to look-ups in sorted lists of numbers.

No enabled rule, no access. Of several enabled rules every one must admit the address. An entry that cannot be read
admits nobody, and an exclusion that cannot be read closes its whole zone.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import chain

import msgspec

from shared.contract.records import Rule, Zone, ZoneAddress
from shared.contract.spans import Span, merged, without

IpAddress = IPv4Address | IPv6Address
ENDPOINTS = ("public", "private")
_UINT32 = "I"
"""Type code of arrays of IPv4 addresses; a list of numbers would take eight times the memory."""


def peer_address(text: str) -> IpAddress | None:
    """Parse the address of a peer; an IPv4 address mapped into IPv6 is the IPv4 address (RFC 4291 §2.5.5.2)."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network_of(address: IpAddress) -> str:
    """Return the network an address is counted with: its /24, or its /56 in IPv6."""
    return str(ip_network(f"{address}/{24 if address.version == 4 else 56}", strict=False))


def source_of(address: IpAddress) -> str:
    """Return what stands for one client: its address, in IPv6 its /64, of which each host can take any address."""
    return str(address) if address.version == 4 else str(ip_network(f"{address}/64", strict=False))


def source_named(text: str) -> str:
    """Return what stands for the client of an address written out; "" stays that."""
    address = peer_address(text) if ":" in text else None
    return text if address is None else source_of(address)


class Ranges(msgspec.Struct, frozen=True):
    """A set of addresses of both IP versions: the sorted first and the sorted last addresses of its spans."""

    starts4: Sequence[int] = ()
    ends4: Sequence[int] = ()
    starts6: Sequence[int] = ()
    ends6: Sequence[int] = ()

    def covers(self, address: IpAddress) -> bool:
        """Whether the address is in the set; in the time of one binary search.

        Spans may overlap: an address is inside if fewer of them have ended before it than have begun.
        """
        starts, ends = (self.starts4, self.ends4) if address.version == 4 else (self.starts6, self.ends6)
        number = int(address)
        begun = bisect_right(starts, number)
        return begun > 0 and ends[begun - 1] >= number


class CompiledRule(msgspec.Struct, frozen=True):
    """One rule: the addresses it admits at each endpoint."""

    rule: str
    public: Ranges
    private: Ranges

    def admits(self, address: IpAddress | None, endpoint: str) -> bool:
        """Whether the rule lets an address in by an endpoint."""
        return address is not None and (self.private if endpoint == "private" else self.public).covers(address)


class AccessList(msgspec.Struct, frozen=True):
    """All rules of an instance that are not disabled."""

    rules: tuple[CompiledRule, ...] = ()
    reporting: tuple[CompiledRule, ...] = ()
    """Rules that only report; they neither open nor restrict."""

    def denial(self, address: IpAddress | None, endpoint: str) -> str:
        """Return "" if the address may come in by this endpoint, else the reason, for the tenant's eyes."""
        if not self.rules:
            return "the instance has no enabled rule, so nobody has access; add a rule with a zone"
        if address is None:
            return "the client's address is not known"
        for rule in self.rules:
            if not rule.admits(address, endpoint):
                return f"rule {rule.rule} has no zone with {address} at the {endpoint} endpoint"
        return ""

    def would_refuse(self, address: IpAddress | None, endpoint: str) -> tuple[str, ...]:
        """Return the reporting rules that would refuse the address if they were enabled."""
        return tuple(rule.rule for rule in self.reporting if not rule.admits(address, endpoint))


def compile_access(
    rules: Iterable[Rule], zones: Mapping[str, Zone], read: Callable[[Zone], Ranges] | None = None
) -> AccessList:
    """Compile an instance's rules; `read` gives the addresses of a zone, for whoever remembers them."""
    read = read or zone_ranges
    enabled: list[CompiledRule] = []
    reporting: list[CompiledRule] = []
    united: dict[tuple[str, ...], Ranges] = {}
    for rule in sorted(rules, key=lambda each: each.id):
        if rule.enforcement == "disabled":
            continue
        admitted = {}
        for endpoint in ENDPOINTS:
            named = tuple(sorted({n for c in rule.contexts if endpoint in (c.endpoints or ENDPOINTS) for n in c.zones}))
            if named not in united:
                own = (zone for name in named if (zone := zones.get(name)) and zone.instance == rule.instance)
                united[named] = _union([read(zone) for zone in own])
            admitted[endpoint] = united[named]
        compiled = CompiledRule(rule.id, admitted["public"], admitted["private"])
        (enabled if rule.enforcement == "enabled" else reporting).append(compiled)
    return AccessList(tuple(enabled), tuple(reporting))


def zone_ranges(zone: Zone) -> Ranges:
    """Return the addresses of a zone, without its exclusions."""
    return ranges_of(zone.addresses, zone.excluded)


def ranges_of(addresses: Iterable[ZoneAddress], excluded: Iterable[ZoneAddress] = ()) -> Ranges:
    """Return addresses without exclusions; an exclusion that cannot be read leaves nothing."""
    admitted = [span for entry in addresses if (span := entry_span(entry)) is not None]
    holes = [entry_span(entry) for entry in excluded]
    if any(span is None for span in holes):
        return Ranges()
    return _ranges(without(merged(admitted), merged([span for span in holes if span is not None])))


_OCTETS = {str(number): number for number in range(256)}
_HOST_MASKS = {str(length): (1 << (32 - length)) - 1 for length in range(33)}


def _quick_span(entry: ZoneAddress) -> Span | None:
    """Read the common forms, an IPv4 address or network, twenty times as fast; None: read it the slow way."""
    if entry.type == "ipRange":
        return None
    text, slash, length = entry.value.partition("/")
    parts = text.split(".")
    mask = _HOST_MASKS.get(length if slash or entry.type == "subnet" else "32")
    if entry.type == "ipAddress" and slash:
        return None
    if len(parts) != 4 or mask is None:
        return None
    number = 0
    for part in parts:
        octet = _OCTETS.get(part)
        if octet is None:
            return None
        number = number << 8 | octet
    return None if number & mask else (4, number, number | mask)


def entry_span(entry: ZoneAddress) -> Span | None:
    """Return the addresses of one entry of a zone, or None if it cannot be read."""
    quick = _quick_span(entry)
    if quick is not None:
        return quick
    if entry.type == "ipAddress":
        address = peer_address(entry.value)
        return None if address is None else (address.version, int(address), int(address))
    if entry.type == "ipRange":
        lower, _, upper = entry.value.partition("-")
        low, high = peer_address(lower.strip()), peer_address(upper.strip())
        if low is None or high is None or low.version != high.version or int(low) > int(high):
            return None
        return low.version, int(low), int(high)
    try:
        network = ip_network(entry.value, strict=True)
    except ValueError:
        return None
    first, last = network.network_address, network.broadcast_address
    low, high = peer_address(str(first)), peer_address(str(last))
    if low is not None and high is not None and low.version == high.version == 4:
        return 4, int(low), int(high)  # also IPv4 networks mapped into IPv6
    return network.version, int(first), int(last)


def _ranges(spans: Iterable[Span]) -> Ranges:
    listed = list(spans)
    return Ranges(
        array(_UINT32, [first for version, first, _ in listed if version == 4]),
        array(_UINT32, [last for version, _, last in listed if version == 4]),
        tuple(first for version, first, _ in listed if version == 6),
        tuple(last for version, _, last in listed if version == 6),
    )


def _union(parts: Sequence[Ranges]) -> Ranges:
    if len(parts) == 1:
        return parts[0]
    return Ranges(
        array(_UINT32, sorted(chain.from_iterable(part.starts4 for part in parts))),
        array(_UINT32, sorted(chain.from_iterable(part.ends4 for part in parts))),
        tuple(sorted(chain.from_iterable(part.starts6 for part in parts))),
        tuple(sorted(chain.from_iterable(part.ends6 for part in parts))),
    )
