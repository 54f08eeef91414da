"""The deprecated lists of allowed addresses: imported by operators, turned into zones and rules when told to."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from services.control.caller import Caller
from services.control.core import allow_list
from services.control.core.access_rules import SERVICE, SMTP_API_TYPE
from services.control.core.allow_list import Migration, RuleStep, ZoneStep
from services.control.core.fault import Fault
from services.control.directory import Directory
from services.control.networks import Networks, RuleWish, ZoneWish
from services.control.refusal import bad_request, unknown
from services.control.settings import ControlSettings
from shared.contract.records import Configuration, Rule, RuleAttribute, Zone
from shared.runtime.clock import now


class AllowLists:
    """Imports lists and migrates them."""

    def __init__(self, directory: Directory, networks: Networks, settings: ControlSettings) -> None:
        self._directory = directory
        self._networks = networks
        self._life = timedelta(days=settings.allow_list_days)

    async def replace(
        self, caller: Caller, configuration: Configuration, subnets: Sequence[str], until: datetime | None
    ) -> Configuration:
        """Import a list in place of the one before; it admits until `until`, by default as long as the setting says.

        Errors: `Refused`: 400 with every fault, 404.
        """
        made, faults = allow_list.entries(subnets)
        if until is not None and until.tzinfo is None:
            faults += (Fault("invalid_time", "until must have a time zone, such as 2027-01-01T00:00:00Z", "until"),)
        if faults:
            raise bad_request(*faults)
        end = (until or now() + self._life) if made else None

        def replaced(present: Configuration) -> Configuration:
            if present.allowed_addresses == made and (until is None or present.allowed_until == until):
                return present
            return msgspec.structs.replace(present, allowed_addresses=made, allowed_until=end, updated_at=now())

        return await self._change(caller, configuration, replaced)

    def plan(self, instance: str) -> Migration:
        """Return what a migration would do now."""
        configurations = [c for c in self._directory.all("configuration.", Configuration) if c.instance == instance]
        return allow_list.migration(configurations, self._networks.zones(instance), self._networks.rules(instance))

    async def migrate(self, caller: Caller, instance: str) -> Migration:
        """Turn the lists of an instance into zones that its rules let in, then empty the lists; return what was done.

        Whoever repeats it after a crash goes on where it broke off.

        Errors: `Refused`: 409 at a limit of zones or rules.
        """
        planned = self.plan(instance)
        made = {step.name: await self._zone(caller, instance, step) for step in planned.zones}
        for step in planned.rules:
            await self._rule(caller, instance, step, [made[name] for name in step.zones])
        for moved in planned.zones:
            configuration = self._directory.get(f"configuration.{moved.configuration}", Configuration)
            if configuration is not None and configuration.allowed_addresses == moved.addresses:
                await self.replace(caller, configuration, (), None)
        return planned

    async def _zone(self, caller: Caller, instance: str, step: ZoneStep) -> str:
        if not step.zone:
            addresses = tuple((each.type, each.value) for each in map(allow_list.zone_address, step.addresses))
            description = f"{allow_list.ZONE_DESCRIPTION} of {step.domain}"[:300]
            wish = ZoneWish(instance=instance, name=step.name, addresses=addresses, description=description)
            return (await self._networks.create_zone(caller, wish))[0].id

        def completed(present: Zone) -> Zone:
            named = {each.value for each in present.addresses}
            added = tuple(allow_list.zone_address(each) for each in step.missing if each not in named)
            if not added:
                return present
            return msgspec.structs.replace(
                present, addresses=(*present.addresses, *added), updated_at=now(), updated_by=caller.name
            )

        await self._directory.change(f"zone.{step.zone}", Zone, completed, caller.name, instance)
        return step.zone

    async def _rule(self, caller: Caller, instance: str, step: RuleStep, zones: list[str]) -> None:
        context = allow_list.context_of(zones)
        if not step.rule:
            resource = {"accountId": instance, "serviceName": SERVICE, "serviceInstance": instance}
            wish = RuleWish(
                instance=instance,
                contexts=(context.written,),
                resource=tuple(RuleAttribute(name=name, value=value) for name, value in resource.items()),
                api_types=(SMTP_API_TYPE,),
                description=allow_list.ZONE_DESCRIPTION,
            )
            await self._networks.create_rule(caller, wish)
            return

        def widened(present: Rule) -> Rule:
            if context in present.contexts:
                return present
            return msgspec.structs.replace(
                present, contexts=(*present.contexts, context), updated_at=now(), updated_by=caller.name
            )

        await self._directory.change(f"rule.{step.rule}", Rule, widened, caller.name, instance)

    async def _change(
        self, caller: Caller, configuration: Configuration, edit: Callable[[Configuration], Configuration]
    ) -> Configuration:
        key = f"configuration.{configuration.id}"
        found = await self._directory.change(key, Configuration, edit, caller.name, configuration.instance)
        if found is None:
            raise unknown("configuration", configuration.id)
        return found[0]
