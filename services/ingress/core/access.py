"""Who may reach an instance's SMTP interface: rules and zones, compiled to look-ups in sorted lists of numbers.

No enabled rule, no access. Of several enabled rules every one must admit the address. An entry that cannot be read
admits nobody, and an exclusion that cannot be read closes its whole zone.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

from shared.contract.records import Rule, Zone, ZoneAddress

IpAddress = IPv4Address | IPv6Address
Span = tuple[int, int, int]
"""IP version, first and last address as numbers."""

ENDPOINTS = ("public", "private")


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


class Ranges(msgspec.Struct, frozen=True):
    """A set of addresses of both IP versions as sorted, disjoint spans."""

    starts4: tuple[int, ...] = ()
    ends4: tuple[int, ...] = ()
    starts6: tuple[int, ...] = ()
    ends6: tuple[int, ...] = ()

    def covers(self, address: IpAddress) -> bool:
        """Whether the address is in the set; in the time of one binary search."""
        starts, ends = (self.starts4, self.ends4) if address.version == 4 else (self.starts6, self.ends6)
        number = int(address)
        position = bisect_right(starts, number) - 1
        return position >= 0 and number <= ends[position]


class CompiledRule(msgspec.Struct, frozen=True):
    """One enabled rule: the addresses it admits at each endpoint."""

    rule: str
    public: Ranges
    private: Ranges


class AccessList(msgspec.Struct, frozen=True):
    """All enabled rules of an instance."""

    rules: tuple[CompiledRule, ...] = ()

    def denial(self, address: IpAddress | None, endpoint: str) -> str:
        """Return "" if the address may come in by this endpoint, else the reason, for the tenant's eyes."""
        if not self.rules:
            return "the instance has no enabled rule, so nobody has access; add a rule with a zone"
        if address is None:
            return "the client's address is not known"
        for rule in self.rules:
            if not (rule.private if endpoint == "private" else rule.public).covers(address):
                return f"rule {rule.rule} has no zone with {address} at the {endpoint} endpoint"
        return ""


def compile_access(rules: Iterable[Rule], zones: Mapping[str, Zone]) -> AccessList:
    """Compile an instance's rules; rules that only report, or are disabled, neither open nor restrict."""
    spans: dict[str, list[Span]] = {}
    compiled = []
    for rule in sorted(rules, key=lambda each: each.id):
        if rule.enforcement != "enabled":
            continue
        admitted: dict[str, list[Span]] = {endpoint: [] for endpoint in ENDPOINTS}
        for context in rule.contexts:
            for name in context.zones:
                zone = zones.get(name)
                if zone is None or zone.instance != rule.instance:
                    continue
                if name not in spans:
                    spans[name] = zone_spans(zone)
                for endpoint in context.endpoints or ENDPOINTS:
                    admitted[endpoint] += spans[name]
        compiled.append(CompiledRule(rule.id, _ranges(admitted["public"]), _ranges(admitted["private"])))
    return AccessList(tuple(compiled))


def zone_spans(zone: Zone) -> list[Span]:
    """Return the addresses of a zone, without its exclusions, as disjoint spans."""
    admitted = [span for entry in zone.addresses if (span := entry_span(entry)) is not None]
    excluded = [entry_span(entry) for entry in zone.excluded]
    if any(span is None for span in excluded):
        return []
    return _subtract(_merge(admitted), _merge([span for span in excluded if span is not None]))


def entry_span(entry: ZoneAddress) -> Span | None:
    """Return the addresses of one entry of a zone, or None if it cannot be read."""
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


def _merge(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for version, first, last in sorted(spans):
        if merged and merged[-1][0] == version and first <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(merged[-1][2], last))
        else:
            merged.append((version, first, last))
    return merged


def _subtract(spans: list[Span], holes: list[Span]) -> list[Span]:
    left: list[Span] = []
    for version, first, last in spans:
        start = first
        for _, hole_first, hole_last in (h for h in holes if h[0] == version and h[2] >= first and h[1] <= last):
            if hole_first > start:
                left.append((version, start, hole_first - 1))
            start = max(start, hole_last + 1)
        if start <= last:
            left.append((version, start, last))
    return left


def _ranges(spans: Iterable[Span]) -> Ranges:
    merged = _merge(spans)
    four = [span for span in merged if span[0] == 4]
    six = [span for span in merged if span[0] == 6]
    return Ranges(
        tuple(first for _, first, _ in four),
        tuple(last for _, _, last in four),
        tuple(first for _, first, _ in six),
        tuple(last for _, _, last in six),
    )
