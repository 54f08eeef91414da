"""Taking a domain over from another instance: whoever can publish in its DNS has it.

The order makes a crash harmless: the old configuration is suspended before the claim moves, and each step may be
repeated by completing the takeover again.
"""

import secrets
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from services.control.caller import Caller
from services.control.configurations import Configurations
from services.control.core.fault import Fault
from services.control.decisions import Decisions
from services.control.directory import Directory
from services.control.refusal import bad_request, conflict, unknown
from services.control.settings import ControlSettings
from shared.contract.records import Configuration, DomainClaim, DomainTakeover, Suspension
from shared.contract.standing import Observation
from shared.contract.subjects import token
from shared.mail.address import Fault as AddressFault
from shared.mail.address import normalise_domain
from shared.runtime.clock import now

ITSELF = Caller("takeover", "operator", None)
"""Who suspends the configuration that lost its domain: its tenant learns nothing of the other one."""
TOKEN_OCTETS = 24
REASON = (
    "the domain {domain} was claimed by somebody else, who proved by a record in its DNS that it is theirs; ask the "
    "operator if that is wrong"
)

Look = Callable[[str, str], Awaitable[Observation]]
"""Asks the verifier whether a value is published at a name."""


def challenge_name(domain: str) -> str:
    """Return where the proof is published."""
    return f"_postlane-challenge.{domain}"


class Takeovers:
    """Challenges to prove domains, kept in the directory until they are met or their time is over."""

    def __init__(
        self, directory: Directory, configurations: Configurations, decisions: Decisions, settings: ControlSettings
    ) -> None:
        self._directory = directory
        self._configurations = configurations
        self._decisions = decisions
        self._life = timedelta(seconds=settings.takeover_seconds)
        self._most = settings.takeovers_per_instance

    async def begin(self, caller: Caller, instance: str, domain: str) -> DomainTakeover:
        """Give a challenge for a domain another instance has; the one given before is good for as long as it lasts.

        Errors: `Refused`: 400, 409 if the domain is free, is the instance's own, or too many challenges are open.
        """
        normal = normalise_domain(domain)
        if isinstance(normal, AddressFault):
            raise bad_request(Fault("invalid_domain", f"domain cannot be used: {normal.reason}", "domain"))
        holder = await self._holder(normal)
        if holder is None:
            raise conflict("domain_free", f"nobody has {normal}: add it as usual")
        if holder.instance == instance:
            raise conflict("domain_yours", f"this instance has {normal} already, as configuration {holder.id}")
        present = self.open_of(instance)
        for takeover in present:
            if takeover.domain == normal:
                return takeover
        if len(present) >= self._most:
            raise conflict("too_many_takeovers", f"an instance has at most {self._most} open takeovers: drop one first")
        takeover = DomainTakeover(
            id=str(uuid.uuid4()),
            instance=instance,
            domain=normal,
            token=f"postlane-proof={secrets.token_urlsafe(TOKEN_OCTETS)}",
            at=now(),
        )
        await self._directory.create(f"takeover.{takeover.id}", takeover, caller.name, instance)
        return takeover

    def open_of(self, instance: str) -> list[DomainTakeover]:
        """Return the open takeovers of an instance, oldest first."""
        found = self._directory.all("takeover.", DomainTakeover)
        mine = [each for each in found if each.instance == instance and now() < self.until(each)]
        return sorted(mine, key=lambda each: (each.at, each.id))

    def until(self, takeover: DomainTakeover) -> datetime:
        """Return until when a challenge may be met."""
        return takeover.at + self._life

    async def complete(
        self, caller: Caller, takeover: DomainTakeover, name: str, description: str, *, delegate: bool, look: Look
    ) -> Configuration:
        """Check the proof; suspend the old configuration and make one here.

        Errors: `Refused`: 400, 409 if the proof is not published, or no configuration can be made here, or the domain
        is no longer to be taken over; then nothing was changed.
        """
        holder = await self._holder(takeover.domain)
        if holder is not None and holder.instance == takeover.instance:
            raise conflict("domain_yours", f"this instance has {takeover.domain} already, as configuration {holder.id}")
        seen = await look(challenge_name(takeover.domain), takeover.token)
        if seen.verdict != "pass":
            raise conflict("proof_missing", f"the proof was not found, so nothing was changed. {seen.detail}")
        name = name or takeover.domain
        self._configurations.check(takeover.instance, name, takeover.domain, description, delegate=delegate)
        if holder is not None:
            await self._decisions.suspend(ITSELF, holder, REASON.format(domain=takeover.domain))
        made = await self._configurations.create(
            caller,
            takeover.instance,
            name,
            takeover.domain,
            description,
            delegate=delegate,
            proven_against=holder.id if holder else "",
        )
        if holder is not None:
            await self._keep_suspended(holder)
        await self.drop(caller, takeover)
        return made

    async def _keep_suspended(self, holder: Configuration) -> None:
        """Suspend the loser again if an operator, who saw the claim before it moved, has ended that meanwhile."""
        present = await self._directory.fresh(f"suspension.{holder.id}", Suspension)
        ended = present is None or present.record.ending_at is not None
        if ended and await self._directory.fresh(f"configuration.{holder.id}", Configuration) is not None:
            await self._decisions.suspend(ITSELF, holder, REASON.format(domain=holder.domain))

    async def drop(self, caller: Caller, takeover: DomainTakeover) -> None:
        """Forget a challenge."""
        await self._directory.delete(f"takeover.{takeover.id}", caller.name, takeover.instance)

    def found(self, instance: str, takeover_id: str) -> DomainTakeover:
        """Return an open takeover of an instance.

        Errors: `Refused` (404).
        """
        for each in self.open_of(instance):
            if each.id == takeover_id:
                return each
        raise unknown("takeover", takeover_id)

    async def _holder(self, domain: str) -> Configuration | None:
        claim = await self._directory.fresh(f"domain.{token(domain)}", DomainClaim)
        if claim is None:
            return None
        holder = await self._directory.fresh(f"configuration.{claim.record.configuration}", Configuration)
        return holder.record if holder else None
