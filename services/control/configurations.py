"""Configurations: a domain is claimed, a key made and sealed, and all of it cleaned up in the end."""

import uuid

import msgspec

from services.control.caller import Caller
from services.control.core import onboarding
from services.control.core.fault import Fault, text_fault
from services.control.directory import Directory
from services.control.refusal import bad_request, conflict, unknown
from services.control.settings import ControlSettings
from services.control.signing_keys import SigningKeys
from shared.contract.errors import WrongSequence
from shared.contract.records import Configuration, DomainClaim, Roster, User
from shared.contract.subjects import token
from shared.mail.address import normalise_domain
from shared.runtime.clock import now


class Configurations:
    """Creates, changes and removes configurations."""

    def __init__(self, directory: Directory, keys: SigningKeys, settings: ControlSettings) -> None:
        self._directory = directory
        self._keys = keys
        self._settings = settings

    async def create(
        self,
        caller: Caller,
        instance: str,
        name: str,
        domain: str,
        description: str,
        *,
        delegate: bool = False,
        proven_against: str = "",
    ) -> Configuration:
        """Create a configuration with its DKIM key; `delegate`: the customer publishes CNAMEs into our zone.

        `proven_against` is the configuration that loses the domain, because this one has proved it to be its own.

        Errors: `Refused`: 400 with every fault, 409 if the domain is taken or the instance is full.
        """
        normal, spf = self.check(instance, name, domain, description, delegate=delegate)
        identity = str(uuid.uuid4())
        await self._claim(caller, instance, normal, identity, proven_against)
        selector = str(uuid.uuid4())
        value = await self._keys.make_first(identity, normal, selector)
        at = now()
        configuration = Configuration(
            id=identity,
            instance=instance,
            name=name,
            domain=normal,
            selector=selector,
            dkim_value=value,
            spf_value=spf,
            created_at=at,
            updated_at=at,
            description=description,
            dkim_delegated=delegate,
            dkim_zone=self._settings.dkim_zone if delegate else "",
            spare_selector=str(uuid.uuid4()) if delegate else "",
        )
        await self._directory.create(f"configuration.{identity}", configuration, caller.name, instance)
        return configuration

    def check(self, instance: str, name: str, domain: str, description: str, *, delegate: bool) -> tuple[str, str]:
        """Return the domain as it is kept and the SPF policy to advise, if nothing but a claim stands in the way.

        Errors: `Refused`: 400 with every fault, 409 if the instance is full or the operator has not said enough.
        """
        faults = onboarding.configuration_faults(name, domain, description)
        normal = normalise_domain(domain)
        if faults or not isinstance(normal, str):
            raise bad_request(*faults)
        spf = onboarding.spf_value(self._settings.spf_include, self._settings.egress_addresses)
        if not spf:
            raise conflict(
                "spf_not_configured",
                "the operator has not said where mail is sent from: set POSTLANE_CONTROL_SPF_INCLUDE or "
                "POSTLANE_CONTROL_EGRESS_ADDRESSES and start control again",
            )
        if delegate and not self._settings.dkim_zone:
            raise conflict(
                "no_dkim_zone",
                "the operator has no zone for delegated keys (POSTLANE_CONTROL_DKIM_ZONE): publish the key yourself",
            )
        present = [c for c in self._directory.all("configuration.", Configuration) if c.instance == instance]
        if len(present) >= self._settings.configurations_per_instance:
            raise conflict(
                "too_many_configurations",
                f"an instance has at most {self._settings.configurations_per_instance} configurations",
            )
        return normal, spf

    async def _claim(self, caller: Caller, instance: str, domain: str, identity: str, proven_against: str = "") -> None:
        key = f"domain.{token(domain)}"
        claim = DomainClaim(domain=domain, configuration=identity, at=now())
        try:
            await self._directory.create(key, claim, caller.name, instance)
        except WrongSequence:
            holder = await self._directory.fresh(key, DomainClaim)
            if holder is not None:
                claimed = holder.record.configuration
                exists = await self._directory.fresh(f"configuration.{claimed}", Configuration)
                proven = proven_against == claimed
                if not proven and (exists is not None or not self._directory.lapsed(holder.record.at)):
                    # Whose it is stays unsaid: another tenant's domain is none of the caller's business.
                    told = f"the domain {domain} belongs to a configuration already; a domain has one"
                    if exists is None or exists.record.instance != instance:
                        told += f". If it is yours, prove it:  postlane domain takeover {domain}"
                    raise conflict("domain_in_use", told) from None

            def take_over(present: DomainClaim) -> DomainClaim:
                if holder is None or present != holder.record:
                    raise conflict("domain_in_use", f"the domain {domain} is being claimed by somebody else")
                return claim

            # In the operator's part of the audit log: whose the domain was is none of the caller's business.
            if await self._directory.change(key, DomainClaim, take_over, caller.name, "") is None:
                await self._claim(caller, instance, domain, identity, proven_against)  # it was given up in between

    async def edit(
        self,
        caller: Caller,
        configuration: Configuration,
        changes: dict[str, object],
        if_match: int | None = None,
    ) -> tuple[Configuration, int]:
        """Change what may be changed of a configuration; its domain and records never change.

        Errors: `Refused`: 400, 404, 412.
        """
        faults: tuple[Fault, ...] = ()
        if isinstance(name := changes.get("name"), str):
            faults += text_fault("name", name, 1, onboarding.NAME_LENGTH)
        if isinstance(description := changes.get("description"), str):
            faults += text_fault("description", description, 0, onboarding.DESCRIPTION_LENGTH)
        if faults:
            raise bad_request(*faults)

        def edited(present: Configuration) -> Configuration:
            if all(getattr(present, field) == value for field, value in changes.items()):
                return present
            after = msgspec.structs.replace(present, updated_at=now(), **changes)
            if after.reply_to != present.reply_to:  # decided here: another change of it may have come in between
                after = msgspec.structs.replace(after, reply_to_confirmed_at=None)
            return after

        found = await self._directory.change(
            f"configuration.{configuration.id}",
            Configuration,
            edited,
            caller.name,
            configuration.instance,
            if_match,
        )
        if found is None:
            raise unknown("configuration", configuration.id)
        return found

    async def remove(self, caller: Caller, configuration: Configuration) -> None:
        """Remove a configuration with its users, its decision, its key and its claim on the domain.

        Access ends first; a crash midway leaves a configuration that can be removed again.
        """
        identity, instance, directory = configuration.id, configuration.instance, self._directory
        for user in directory.all(f"user.{identity}.", User):
            await directory.delete(f"user.{identity}.{user.id}", caller.name, instance)
        for key in (f"authorization.{identity}", f"suspension.{identity}", f"configuration.{identity}"):
            await directory.delete(key, caller.name, instance)
        await self._keys.forget(identity)
        claim = await directory.fresh(f"domain.{token(configuration.domain)}", DomainClaim)
        if claim is not None and claim.record.configuration == identity:
            await directory.delete(claim.key, caller.name, instance)
        if await directory.fresh(f"roster.users.{identity}", Roster) is not None:
            await directory.delete(f"roster.users.{identity}", caller.name, instance)
