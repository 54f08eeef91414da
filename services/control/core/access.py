"""Who may reach an instance's SMTP interface, listed and explained. Ingress decides it, by the same zones and rules.

No enabled rule, no access. Of several enabled rules every one must admit the address.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from services.control.core.address_spans import Address, common, networks, spans, unmapped
from shared.contract.records import Rule, Zone, ZoneAddress
from shared.contract.spans import Span, merged, without


def allowed_subnets(rules: Iterable[Rule], zones: Mapping[str, Zone]) -> tuple[str, ...]:
    """Return the networks an instance's enabled rules admit at any endpoint, as addresses and subnets.

    Of several rules every one must admit an address; no enabled rule admits nobody.
    """
    admitted: list[Span] | None = None
    for rule in rules:
        if rule.enforcement != "enabled":
            continue
        named = [zones[name] for context in rule.contexts for name in context.zones if name in zones]
        opened = merged(span for zone in named for span in without(spans(zone.addresses), spans(zone.excluded)))
        admitted = opened if admitted is None else merged(common(admitted, opened))
    return tuple(text for span in admitted or () for text in networks(span))


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
    address = unmapped(address)
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
    address = unmapped(address)
    number = int(address)
    return any(
        version == address.version and first <= number <= last
        for version, first, last in without(spans(addresses), spans(excluded))
    )
