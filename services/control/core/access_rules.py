"""Zones and rules as IBM's context-based restrictions write them: checked, and made into records.

What Postlane cannot enforce is refused rather than stored and ignored. Semantics: `ibm-smtp-api`, context-based
restrictions: contexts are alternatives, attributes of a context must all match, no rule means no access.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Literal

from services.control.core.address_spans import spans
from services.control.core.fault import Fault
from shared.contract.records import RuleAttribute, RuleContext, Zone, ZoneAddress

ADDRESSES_PER_ZONE = 1000
CONTEXTS_PER_RULE = 1000
API_TYPES_PER_RULE = 100
CHARACTERS_PER_RULE = 100_000
"""What all contexts of a rule are written in: a thousand contexts of a zone and an endpoint each have room."""
ADDRESS_LENGTH = 100
"""Two IPv6 addresses with all their digits, and what is between them."""
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
_DESCRIPTION = re.compile(r"[\x20-\x7e\xa0-\xfe]*")  # without the controls between, which steer terminals
_ACCOUNT = re.compile(r"[a-zA-Z0-9-]{1,128}")
_KINDS = ("ipAddress", "ipRange", "subnet")


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
    if len(description) > DESCRIPTION_LENGTH or not _DESCRIPTION.fullmatch(description):
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
    if len(value) > ADDRESS_LENGTH:
        return f"an address, range or subnet has at most {ADDRESS_LENGTH} characters"
    try:
        spans((ZoneAddress(type=_kind(kind), value=value),))
    except ValueError as fault:
        return _advice(kind, value, str(fault))
    return ""


def _advice(kind: str, value: str, fault: str) -> str:
    if kind == "subnet":
        try:
            network = ip_network(value, strict=False)
        except ValueError:
            return f"{value!r} is not a subnet; write for example 192.0.2.0/24"
        if _is_subnet(value):
            return f"{value!r} cannot be used: {fault}"
        return f"{value} has host bits set; did you mean {network}?"
    if kind == "ipRange":
        return f"{value!r} is not a range; write for example 192.0.2.10-192.0.2.20 ({fault})"
    return f"{value!r} is not an IP address"


def _is_subnet(value: str) -> bool:
    try:
        ip_network(value, strict=True)
    except ValueError:
        return False
    return True


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
    written = sum(len(each.name) + len(each.value) for attributes in contexts for each in attributes)
    if written > CHARACTERS_PER_RULE:
        return (), (
            Fault("contexts_too_long", f"contexts must have at most {CHARACTERS_PER_RULE} characters in all, they have "
                  f"{written}: name each zone once, or make one zone of several", "contexts"),
        )  # fmt: skip
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
            if attribute.operator not in ("", "stringEquals"):
                faults.append(_unsupported_operator(attribute.operator, field))
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
                faults.append(zone_not_found(zone_id, field))
        if values.get("endpointType") == []:
            faults.append(
                Fault("invalid_endpoint_type", f"{field}: endpointType is public or private; leave it out for both",
                      field)
            )  # fmt: skip
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


def zone_not_found(zone_id: str, field: str) -> Fault:
    """Return the fault of a context that names a zone that is not there."""
    return Fault("zone_not_found", f"{field}: there is no zone {zone_id!r} in this account", field)


def _unsupported_operator(operator: str, field: str) -> Fault:
    return Fault("unsupported_operator", f"{field}: operator {operator!r} is not supported, only stringEquals", field)


def rule_account(resources: Sequence[Sequence[RuleAttribute]]) -> tuple[str, tuple[Fault, ...]]:
    """Return the account (our instance) a rule protects, and everything that is wrong with its resources."""
    if len(resources) != 1:
        return "", (Fault("invalid_resources", "a rule protects exactly one resource", "resources"),)
    faults: list[Fault] = []
    values: dict[str, str] = {}
    for attribute in resources[0]:
        if attribute.operator not in ("", "stringEquals"):
            faults.append(_unsupported_operator(attribute.operator, "resources[0]"))
        if attribute.name in values:
            faults.append(
                Fault("duplicate_resource_attribute", f"resources[0]: {attribute.name} must be given once",
                      "resources[0]")
            )  # fmt: skip
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
    if len(api_types) > API_TYPES_PER_RULE:
        faults.append(
            Fault("too_many_api_types", f"operations.api_types must have at most {API_TYPES_PER_RULE} entries",
                  "operations")
        )  # fmt: skip
    foreign = [name for name in api_types if name not in SMTP_API_TYPES]
    if not api_types or foreign:
        faults.append(
            Fault("unsupported_operations", f"operations.api_types must be the SMTP one, {SMTP_API_TYPE}: rules "
                  "restrict the SMTP interface and nothing else", "operations")
        )  # fmt: skip
    return tuple(faults)
