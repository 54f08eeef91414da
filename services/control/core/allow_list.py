"""The deprecated list of allowed addresses of a configuration: read in, shown while it lasts, turned into a zone.

Until its date a list admits addresses for its configuration alone, besides what the rules of the instance admit.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_network

import msgspec

from services.control.core.fault import Fault
from services.control.core.guard_rails import network
from shared.contract.records import Configuration, Rule, RuleAttribute, RuleContext, Zone, ZoneAddress

ENTRIES = 1000
ZONE_DESCRIPTION = "made from the imported list of allowed addresses"
_DOMAIN_SHOWN = 80
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class ZoneStep(msgspec.Struct, frozen=True, kw_only=True):
    """A zone that is to hold the list of a configuration."""

    configuration: str
    domain: str
    name: str
    addresses: tuple[str, ...]
    zone: str = ""
    """The zone of this name that exists already."""
    missing: tuple[str, ...] = ()
    """Addresses that zone does not name yet."""


class RuleStep(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is to let those zones in; every enabled rule has to."""

    rule: str = ""
    """Empty: a new rule, since none is enabled."""
    zones: tuple[str, ...]
    """Names of the zones the rule does not let in yet."""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """What turns the lists of an instance into zones and rules; nothing if there is no list."""

    zones: tuple[ZoneStep, ...] = ()
    rules: tuple[RuleStep, ...] = ()


def entries(texts: Sequence[str]) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """Return imported entries in one form, addresses as such, and everything that is wrong; host bits are let pass."""
    if len(texts) > ENTRIES:
        return (), (Fault("too_many_addresses", f"subnets must have at most {ENTRIES} entries", "subnets"),)
    faults: list[Fault] = []
    made: list[str] = []
    for position, text in enumerate(texts):
        try:
            found = ip_network(network(str(ip_network(text.strip(), strict=False))))
            made.append(str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found))
        except ValueError:
            wanted = "write an IP address, or a network such as 192.0.2.0/24"
            faults.append(Fault("invalid_address", f"subnets[{position}]: {text!r}: {wanted}", f"subnets[{position}]"))
    return tuple(dict.fromkeys(made)), tuple(faults)


def in_force(configuration: Configuration, at: datetime) -> tuple[str, ...]:
    """Return the entries that still admit."""
    until = configuration.allowed_until
    return configuration.allowed_addresses if until is not None and at < until else ()


def zone_name(configuration: Configuration) -> str:
    """Return the name of the zone a list becomes: the same one each time."""
    domain = _NOT_IN_A_NAME.sub("-", configuration.domain)[:_DOMAIN_SHOWN]
    return f"allowed {domain} {_NOT_IN_A_NAME.sub('-', configuration.id)[:8]}"


def zone_address(entry: str) -> ZoneAddress:
    """Return an entry as a zone writes it."""
    return ZoneAddress(type="subnet" if "/" in entry else "ipAddress", value=entry)


def migration(configurations: Iterable[Configuration], zones: Mapping[str, Zone], rules: Iterable[Rule]) -> Migration:
    """Plan the migration of an instance, from what is there; a migration that broke off goes on where it was."""
    by_name = {zone.name: zone for zone in zones.values()}
    steps = []
    for configuration in configurations:
        if not configuration.allowed_addresses:
            continue
        name = zone_name(configuration)
        present = by_name.get(name)
        named = {entry.value for entry in present.addresses} if present else set()
        steps.append(
            ZoneStep(
                configuration=configuration.id,
                domain=configuration.domain,
                name=name,
                addresses=configuration.allowed_addresses,
                zone=present.id if present else "",
                missing=tuple(entry for entry in configuration.allowed_addresses if entry not in named),
            )
        )
    if not steps:
        return Migration()
    changes = []
    enabled = [rule for rule in rules if rule.enforcement == "enabled"]
    for rule in enabled:
        let_in = {zone for context in rule.contexts if not context.endpoints for zone in context.zones}
        lacking = tuple(step.name for step in steps if step.zone not in let_in)
        if lacking:
            changes.append(RuleStep(rule=rule.id, zones=lacking))
    if not enabled:
        changes.append(RuleStep(zones=tuple(step.name for step in steps)))
    return Migration(zones=tuple(steps), rules=tuple(changes))


def context_of(zones: Sequence[str]) -> RuleContext:
    """Return the context that lets zones in by any endpoint."""
    written = RuleAttribute(name="networkZoneId", value=",".join(zones))
    return RuleContext(zones=tuple(zones), written=(written,))
