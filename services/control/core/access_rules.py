"""Zones and rules as IBM's context-based restrictions write them: checked, and turned into what ingress evaluates.

What Postlane cannot enforce is refused rather than stored and ignored. Semantics: `ibm-smtp-api`, context-based
restrictions: contexts are alternatives, attributes of a context must all match, no rule means no access.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import Literal

import msgspec

from services.control.core.fault import Fault
from shared.contract.records import Rule, RuleAttribute, RuleContext, Zone, ZoneAddress

ADDRESSES_PER_ZONE = 1000
CONTEXTS_PER_RULE = 1000
ZONES_PER_INSTANCE = 500
RULES_PER_INSTANCE = 4020
ZONE_NAME_LENGTH = 128
DESCRIPTION_LENGTH = 300
SERVICE = "event-notifications"
SMTP_API_TYPE = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"
SMTP_API_TYPES = frozenset({SMTP_API_TYPE, SMTP_API_TYPE.replace("notifications:", "notifications-dev:", 1)})
"""The name IBM's manual prints has `-dev` in it; both are read."""
ENFORCEMENT = ("enabled", "report", "disabled")

_ZONE_NAME = re.compile(r"[a-zA-Z0-9 _-]+")
_ACCOUNT = re.compile(r"[a-zA-Z0-9-]{1,128}")
_KINDS = ("ipAddress", "ipRange", "subnet")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def is_account(text: str) -> bool:
    """Whether a text has the form of an account ID."""
    return _ACCOUNT.fullmatch(text) is not None


def zone_faults(
    name: str, description: str, addresses: Sequence[tuple[str, str]], excluded: Sequence[tuple[str, str]]
) -> tuple[Fault, ...]:
    """Check what a client says of a zone; addresses are pairs of type and value."""
    faults: list[Fault] = []
    if not 1 <= len(name) <= ZONE_NAME_LENGTH or not _ZONE_NAME.fullmatch(name):
        faults.append(
            Fault("invalid_zone_name", f"name has 1 to {ZONE_NAME_LENGTH} letters, digits, spaces, - or _", "name")
        )
    faults += _description_faults(description)
    for field, entries in (("addresses", addresses), ("excluded", excluded)):
        if len(entries) > ADDRESSES_PER_ZONE:
            faults.append(Fault("too_many_addresses", f"{field} must have at most {ADDRESSES_PER_ZONE} entries", field))
        for position, (kind, value) in enumerate(entries[:ADDRESSES_PER_ZONE]):
            if problem := address_problem(kind, value):
                faults.append(Fault("invalid_address", f"{field}[{position}]: {problem}", f"{field}[{position}]"))
    return tuple(faults)


def _description_faults(description: str) -> tuple[Fault, ...]:
    if len(description) > DESCRIPTION_LENGTH or any(not 0x20 <= ord(c) <= 0xFE for c in description):
        return (
            Fault(
                "invalid_description",
                f"description must have at most {DESCRIPTION_LENGTH} printable characters",
                "description",
            ),
        )
    return ()


def address_problem(kind: str, value: str) -> str:
    """Say what is wrong with one entry of a zone, or return ""."""
    if kind not in _KINDS:
        return f"type {kind!r} cannot be enforced here; use one of {', '.join(_KINDS)}"
    try:
        _spans((ZoneAddress(type=_kind(kind), value=value),))
    except ValueError as fault:
        return _advice(kind, value, str(fault))
    return ""


def _advice(kind: str, value: str, fault: str) -> str:
    if kind == "subnet":
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            return f"{value!r} is not a subnet; write for example 192.0.2.0/24"
        return f"{value} has host bits set; did you mean {network}?"
    if kind == "ipRange":
        return f"{value!r} is not a range; write for example 192.0.2.10-192.0.2.20 ({fault})"
    return f"{value!r} is not an IP address"


def _kind(kind: str) -> Literal["ipAddress", "ipRange", "subnet"]:
    return "subnet" if kind == "subnet" else "ipRange" if kind == "ipRange" else "ipAddress"


def zone_addresses(entries: Iterable[tuple[str, str]]) -> tuple[ZoneAddress, ...]:
    """Return checked entries as records."""
    return tuple(ZoneAddress(type=_kind(kind), value=value) for kind, value in entries)


def rule_contexts(
    contexts: Sequence[Sequence[RuleAttribute]], zones: Mapping[str, Zone], instance: str
) -> tuple[tuple[RuleContext, ...], tuple[Fault, ...]]:
    """Return the contexts of a rule of an instance, and everything that is wrong with them."""
    if len(contexts) > CONTEXTS_PER_RULE:
        return (), (Fault("too_many_contexts", f"contexts must have at most {CONTEXTS_PER_RULE} entries", "contexts"),)
    faults: list[Fault] = []
    made: list[RuleContext] = []
    for position, attributes in enumerate(contexts):
        field = f"contexts[{position}]"
        values: dict[str, list[str]] = {}
        for attribute in attributes:
            if attribute.name in values:
                faults.append(
                    Fault("duplicate_context_attribute", f"{field}: {attribute.name} must be given once", field)
                )
            values[attribute.name] = [part.strip() for part in attribute.value.split(",") if part.strip()]
        for name in sorted(values.keys() - {"networkZoneId", "endpointType"}):
            faults.append(
                Fault("unsupported_attribute", f"{field}: {name} cannot be enforced on SMTP; use networkZoneId and "
                      "endpointType", field)
            )  # fmt: skip
        named = values.get("networkZoneId", [])
        if not named:
            faults.append(
                Fault("zone_missing", f"{field} must name a networkZoneId; for any address make a zone of 0.0.0.0/0 "
                      "and ::/0", field)
            )  # fmt: skip
        for zone_id in named:
            zone = zones.get(zone_id)
            if zone is None or zone.instance != instance:
                faults.append(Fault("zone_not_found", f"{field}: there is no zone {zone_id!r} in this account", field))
        endpoints: list[Literal["public", "private"]] = []
        for word in values.get("endpointType", []):
            if word in ("public", "private"):
                endpoints.append("private" if word == "private" else "public")
            else:
                faults.append(
                    Fault("invalid_endpoint_type", f"{field}: endpointType is public or private, not {word!r}", field)
                )
        made.append(RuleContext(zones=tuple(named), endpoints=tuple(endpoints), written=tuple(attributes)))
    return tuple(made), tuple(faults)


def rule_account(resources: Sequence[Sequence[RuleAttribute]]) -> tuple[str, tuple[Fault, ...]]:
    """Return the account (our instance) a rule protects, and everything that is wrong with its resources."""
    if len(resources) != 1:
        return "", (Fault("invalid_resources", "a rule protects exactly one resource", "resources"),)
    faults: list[Fault] = []
    values: dict[str, str] = {}
    for attribute in resources[0]:
        if attribute.operator not in ("", "stringEquals"):
            faults.append(
                Fault("unsupported_operator", f"operator {attribute.operator!r} is not supported", "resources[0]")
            )
        values[attribute.name] = attribute.value
    for name in sorted(values.keys() - {"accountId", "serviceName", "serviceInstance"}):
        faults.append(
            Fault("unsupported_attribute", f"resources[0]: {name} cannot be enforced; use accountId, serviceName and "
                  "serviceInstance", "resources[0]")
        )  # fmt: skip
    account = values.get("accountId", "")
    if not is_account(account):
        faults.append(Fault("invalid_account_id", "resources[0] needs an accountId: the instance's ID", "resources"))
    if values.get("serviceName") != SERVICE:
        faults.append(
            Fault("service_not_supported", f"resources[0] must have the serviceName {SERVICE}: only the SMTP interface "
                  "is restricted by rules", "resources[0]")
        )  # fmt: skip
    if values.get("serviceInstance", account) != account:
        faults.append(
            Fault("invalid_service_instance", "here an instance is its own account: serviceInstance must equal "
                  "accountId", "resources[0]")
        )  # fmt: skip
    return account, tuple(faults)


def rule_faults(description: str, enforcement: str, api_types: Sequence[str]) -> tuple[Fault, ...]:
    """Check the rest of a rule: description, enforcement mode, API types."""
    faults = list(_description_faults(description))
    if enforcement not in ENFORCEMENT:
        faults.append(
            Fault("invalid_enforcement_mode", f"enforcement_mode is one of {', '.join(ENFORCEMENT)}",
                  "enforcement_mode")
        )  # fmt: skip
    foreign = [name for name in api_types if name not in SMTP_API_TYPES]
    if not api_types or foreign:
        faults.append(
            Fault("unsupported_operations", f"operations.api_types must be the SMTP one, {SMTP_API_TYPE}: rules "
                  "restrict the SMTP interface and nothing else", "operations")
        )  # fmt: skip
    return tuple(faults)


def zone_size(addresses: Iterable[ZoneAddress]) -> int:
    """Return the number of entries, as IBM counts them."""
    return sum(1 for _ in addresses)


Span = tuple[int, int, int]
"""IP version, first and last address as numbers."""


def _spans(entries: Iterable[ZoneAddress]) -> list[Span]:
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
        first, last = _unmapped(first), _unmapped(last)
        if first.version != last.version:
            raise ValueError("it reaches beyond the IPv4-mapped addresses")
        found.append((first.version, int(first), int(last)))
    return _merged(found)


def _unmapped(address: Address) -> Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # RFC 4291 §2.5.5.2
    return address


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for version, first, last in sorted(spans):
        if merged and merged[-1][0] == version and first <= merged[-1][2] + 1:
            merged[-1] = (version, merged[-1][1], max(merged[-1][2], last))
        else:
            merged.append((version, first, last))
    return merged


def _without(spans: Iterable[Span], holes: Sequence[Span]) -> list[Span]:
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


def _common(left: Iterable[Span], right: Sequence[Span]) -> list[Span]:
    return [
        (version, max(first, other_first), min(last, other_last))
        for version, first, last in left
        for other_version, other_first, other_last in right
        if version == other_version and max(first, other_first) <= min(last, other_last)
    ]


def allowed_subnets(rules: Iterable[Rule], zones: Mapping[str, Zone]) -> tuple[str, ...]:
    """Return the networks an instance's enabled rules admit at any endpoint, as addresses and subnets.

    Of several rules every one must admit an address; no enabled rule admits nobody.
    """
    admitted: list[Span] | None = None
    for rule in rules:
        if rule.enforcement != "enabled":
            continue
        named = [zones[name] for context in rule.contexts for name in context.zones if name in zones]
        opened = _merged(span for zone in named for span in _without(_spans(zone.addresses), _spans(zone.excluded)))
        admitted = opened if admitted is None else _merged(_common(admitted, opened))
    return tuple(text for span in admitted or () for text in _networks(span))


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule says of an address."""

    rule: str
    enforcement: Literal["enabled", "report", "disabled"]
    admits: bool
    zones: tuple[str, ...]
    """IDs of the rule's zones that hold the address and may come in by the endpoint."""


def explain(
    rules: Iterable[Rule], zones: Mapping[str, Zone], address: Address, endpoint: Literal["public", "private"]
) -> tuple[bool, str, tuple[RuleVerdict, ...]]:
    """Say whether an address may reach SMTP by an endpoint, why in one sentence, and what each rule says."""
    address = _unmapped(address)
    holding = {name for name, zone in zones.items() if _holds(zone, address)}
    verdicts = []
    for rule in rules:
        fitting = [context for context in rule.contexts if not context.endpoints or endpoint in context.endpoints]
        matched = tuple(dict.fromkeys(name for context in fitting for name in context.zones if name in holding))
        verdicts.append(
            RuleVerdict(rule=rule.id, enforcement=rule.enforcement, admits=bool(matched), zones=matched)
        )  # fmt: skip
    enforced = [verdict for verdict in verdicts if verdict.enforcement == "enabled"]
    refusing = [verdict.rule for verdict in enforced if not verdict.admits]
    if not enforced:
        sentence = "no rule is enabled, so nobody is admitted: add a rule with a zone that holds the address"
    elif refusing:
        sentence = (
            f"refused by rule {', '.join(refusing)}: none of its zones holds {address} at the {endpoint} endpoint"
            f"{', and every enabled rule must admit' if len(enforced) > 1 else ''}"
        )
    else:
        sentence = f"admitted: every enabled rule has a zone that holds {address} at the {endpoint} endpoint"
    return bool(enforced) and not refusing, sentence, tuple(verdicts)


def _holds(zone: Zone, address: Address) -> bool:
    return holds(zone.addresses, address, zone.excluded)


def holds(addresses: Iterable[ZoneAddress], address: Address, excluded: Iterable[ZoneAddress] = ()) -> bool:
    """Whether an address is one of the addresses and none of the excluded ones."""
    address = _unmapped(address)
    number = int(address)
    return any(
        version == address.version and first <= number <= last
        for version, first, last in _without(_spans(addresses), _spans(excluded))
    )


def _networks(span: Span) -> list[str]:
    version, first, last = span
    networks: Iterable[Network]
    if version == 4:
        networks = summarize_address_range(IPv4Address(first), IPv4Address(last))
    else:
        networks = summarize_address_range(IPv6Address(first), IPv6Address(last))
    return [str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in networks]
