"""Zones and rules of an instance: who may reach its SMTP interface."""

import uuid
from collections.abc import Iterable
from typing import Literal

import msgspec

from services.control.caller import Caller
from services.control.core import access_rules
from services.control.core.access_rules import RULES_PER_INSTANCE, ZONES_PER_INSTANCE
from services.control.core.fault import Fault
from services.control.directory import Directory
from services.control.refusal import Refused, bad_request, conflict, stale, unknown
from shared.contract.records import Rule, RuleAttribute, RuleContext, Zone
from shared.runtime.clock import now


class ZoneWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a zone; addresses are pairs of type and value."""

    instance: str
    name: str
    addresses: tuple[tuple[str, str], ...]
    excluded: tuple[tuple[str, str], ...] = ()
    description: str = ""


class RuleWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of a rule; the instance has been read from its resources."""

    instance: str
    contexts: tuple[tuple[RuleAttribute, ...], ...]
    resource: tuple[RuleAttribute, ...]
    api_types: tuple[str, ...]
    enforcement: str = "enabled"
    description: str = ""


class Networks:
    """Creates, replaces and removes zones and rules."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def zones(self, instance: str) -> dict[str, Zone]:
        """Return the zones of an instance by their IDs."""
        return {zone.id: zone for zone in self._directory.all("zone.", Zone) if zone.instance == instance}

    def rules(self, instance: str) -> list[Rule]:
        """Return the rules of an instance, oldest first."""
        found = [rule for rule in self._directory.all("rule.", Rule) if rule.instance == instance]
        return sorted(found, key=lambda rule: (rule.created_at, rule.id))

    async def create_zone(self, caller: Caller, wish: ZoneWish) -> tuple[Zone, int]:
        """Create a zone; return it with its revision.

        Errors: `Refused`: 400 with every fault, 409 if the name is taken.
        """
        _check_zone(wish)
        at = now()
        zone = Zone(
            id=uuid.uuid4().hex,
            instance=wish.instance,
            name=wish.name,
            addresses=access_rules.zone_addresses(wish.addresses),
            excluded=access_rules.zone_addresses(wish.excluded),
            description=wish.description,
            created_at=at,
            updated_at=at,
            created_by=caller.name,
            updated_by=caller.name,
        )
        await self._take_name(wish.instance, wish.name, f"zone.{zone.id}")
        return zone, await self._directory.create(f"zone.{zone.id}", zone, caller.name, wish.instance)

    async def _take_name(self, instance: str, name: str, holder: str) -> None:
        await self._directory.take_seat(
            f"roster.zones.{instance}",
            name,
            holder,
            ZONES_PER_INSTANCE,
            full=Fault("too_many_zones", f"an account has at most {ZONES_PER_INSTANCE} zones"),
            taken=Fault("zone_name_in_use", f"there is a zone named {name!r} already", "name"),
        )

    async def replace_zone(self, caller: Caller, zone: Zone, wish: ZoneWish, if_match: int) -> tuple[Zone, int]:
        """Replace a zone as a whole, if it still has the revision `if_match`.

        Errors: `Refused`: 400, 404, 409, 412.
        """
        _check_zone(wish)
        key = f"zone.{zone.id}"

        def replaced(present: Zone) -> Zone:
            return msgspec.structs.replace(
                present,
                name=wish.name,
                addresses=access_rules.zone_addresses(wish.addresses),
                excluded=access_rules.zone_addresses(wish.excluded),
                description=wish.description,
                updated_at=now(),
                updated_by=caller.name,
            )

        present = await self._directory.fresh(key, Zone)
        if present is None:
            raise unknown("zone", zone.id)
        if present.revision != if_match:
            raise stale()
        await self._take_name(zone.instance, wish.name, key)
        try:
            found = await self._directory.change(key, Zone, replaced, caller.name, zone.instance, if_match)
        except Refused:
            await self._take_name(zone.instance, present.record.name, key)  # somebody else was faster
            raise
        if found is None:
            raise unknown("zone", zone.id)
        return found

    async def remove_zone(self, caller: Caller, zone: Zone) -> None:
        """Remove a zone that no rule names.

        Errors: `Refused` (409) while a rule names it.
        """
        key = f"zone.{zone.id}"
        _check_unused(zone, self.rules(zone.instance))
        await self._directory.delete(key, caller.name, zone.instance)
        try:
            # A rule may have been written meanwhile. Who writes one looks after its zones afterwards, as we do after
            # rules now: one of us sees the other.
            _check_unused(zone, await self._directory.fresh_all("rule", Rule))
        except Refused:
            await self._directory.create(key, zone, caller.name, zone.instance)
            raise
        await self._directory.leave_seat(f"roster.zones.{zone.instance}", key)

    async def create_rule(self, caller: Caller, wish: RuleWish) -> tuple[Rule, int]:
        """Create a rule; return it with its revision.

        Errors: `Refused`: 400 with every fault, 409 at the limit.
        """
        contexts, enforcement = self._checked(wish)
        if len(self.rules(wish.instance)) >= RULES_PER_INSTANCE:
            raise conflict("too_many_rules", f"an account has at most {RULES_PER_INSTANCE} rules")
        at = now()
        rule = Rule(
            id=uuid.uuid4().hex,
            instance=wish.instance,
            contexts=contexts,
            created_at=at,
            updated_at=at,
            enforcement=enforcement,
            description=wish.description,
            created_by=caller.name,
            updated_by=caller.name,
            resource=wish.resource,
            api_types=wish.api_types,
        )
        revision = await self._directory.create(f"rule.{rule.id}", rule, caller.name, wish.instance)
        if missing := await self._missing_zone(rule):
            await self.remove_rule(caller, rule)
            raise bad_request(missing)
        return rule, revision

    async def _missing_zone(self, rule: Rule) -> Fault | None:
        """Return what is wrong with a rule just written: a zone that was removed while it was."""
        for position, context in enumerate(rule.contexts):
            for zone in context.zones:
                if await self._directory.fresh(f"zone.{zone}", Zone) is None:
                    return access_rules.zone_not_found(zone, f"contexts[{position}]")
        return None

    async def replace_rule(self, caller: Caller, rule: Rule, wish: RuleWish, if_match: int) -> tuple[Rule, int]:
        """Replace a rule as a whole, if it still has the revision `if_match`.

        Errors: `Refused`: 400, 404, 412.
        """
        contexts, enforcement = self._checked(wish)
        key, before = f"rule.{rule.id}", rule

        def replaced(present: Rule) -> Rule:
            nonlocal before
            before = present
            return msgspec.structs.replace(
                present,
                contexts=contexts,
                enforcement=enforcement,
                description=wish.description,
                resource=wish.resource,
                api_types=wish.api_types,
                updated_at=now(),
                updated_by=caller.name,
            )

        found = await self._directory.change(key, Rule, replaced, caller.name, rule.instance, if_match)
        if found is None:
            raise unknown("rule", rule.id)
        after, revision = found
        if missing := await self._missing_zone(after):
            await self._directory.change(key, Rule, lambda _: before, caller.name, rule.instance, revision)
            raise bad_request(missing)
        return found

    async def remove_rule(self, caller: Caller, rule: Rule) -> None:
        """Remove a rule; without any, nobody reaches the instance."""
        await self._directory.delete(f"rule.{rule.id}", caller.name, rule.instance)

    def _checked(self, wish: RuleWish) -> tuple[tuple[RuleContext, ...], Literal["enabled", "report", "disabled"]]:
        contexts, faults = access_rules.rule_contexts(wish.contexts, self.zones(wish.instance), wish.instance)
        faults += access_rules.rule_faults(wish.description, wish.enforcement, wish.api_types)
        if faults:
            raise bad_request(*faults)
        match wish.enforcement:
            case "report" | "disabled":
                return contexts, wish.enforcement
            case _:
                return contexts, "enabled"


def _check_unused(zone: Zone, rules: Iterable[Rule]) -> None:
    for rule in rules:
        if any(zone.id in context.zones for context in rule.contexts):
            raise conflict("zone_in_use", f"zone {zone.name!r} is referenced by one or more rules, such as {rule.id}")


def _check_zone(wish: ZoneWish) -> None:
    faults = access_rules.zone_faults(wish.name, wish.description, wish.addresses, wish.excluded)
    if faults:
        raise bad_request(*faults)
