"""One check of one configuration: questions asked of DNS, judged by the core, with the evidence kept.

A failure is confirmed before it is believed: everything is asked again, past the cache, beginning with another resolver
where several are configured; a failure that only one of them shows is unknown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from services.verifier.asker import Asker
from services.verifier.core import challenge, dkim_record, dmarc_record, return_path, sender_policy
from services.verifier.core.answer import Absent, Answer, Evidence, Kind, Question, Records, cut, kept, printable
from services.verifier.core.dkim_record import Finding
from services.verifier.core.dmarc_record import dmarc_name
from services.verifier.core.spf import Limits, Outcome, check_host
from services.verifier.core.standing import Inspection
from services.verifier.resolver import Resolver
from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Observation

ADDRESS_KINDS: tuple[Kind, ...] = ("A", "AAAA")
EXISTENCE_KINDS: tuple[Kind, ...] = (*ADDRESS_KINDS, "MX")
DETAIL_LENGTH = 1_000
"""Longer sentences quote a record that nobody needs in full; they go into replies, mails and logs."""
NOBODYS_ADDRESS = "240.0.0.1"  # RFC 1112 §4: reserved, so that every term of a record is looked at


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """All records of a domain as they are now."""

    spf: Observation
    dkim: Observation
    dmarc: Observation
    return_path: Observation
    next_dkim: Observation | None
    ed25519: Observation | None
    spare_dkim: Observation | None
    published: tuple[str, ...]
    """The TXT values at the domain."""
    lookups: int
    advice: str


class Checker:
    """Checks configurations through a resolver; keeps nothing between checks."""

    def __init__(
        self,
        resolver: Resolver,
        egress_addresses: Sequence[str],
        ehlo_name: str,
        limits: Limits,
        timeout_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._resolver = resolver
        self._egress_addresses = tuple(egress_addresses)
        self._ehlo_name = ehlo_name
        self._limits = limits
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    @property
    def backlog_seconds(self) -> float:
        """How long a DNS question waits for its turn now."""
        return self._resolver.backlog_seconds

    async def inspect(self, configuration: Configuration, *, fresh: bool = False) -> Inspection:
        """Check both records; takes no longer than the configured time and never raises for what DNS does.

        What lies in the domain itself is always asked anew, so that each check is a new observation; `fresh` bypasses
        the cache for all else too.
        """
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        asked = Asker(self._resolver, own=configuration.domain, fresh=fresh)
        async with asyncio.TaskGroup() as side_by_side:
            spf = side_by_side.create_task(self._within(until, self._spf(configuration, asked), configuration.domain))
            dkim = side_by_side.create_task(
                self._within(until, self._dkim(configuration, asked), dkim_name(configuration))
            )
            next_dkim = side_by_side.create_task(self._key(configuration, configuration.next_key, asked, until))
            ed25519 = side_by_side.create_task(self._key(configuration, configuration.ed25519_key, asked, until))
            advice = side_by_side.create_task(self._existence(configuration.domain, asked, until))
        at = self._clock()
        confirmed = await self._confirmed(dkim.result(), until, configuration, self._dkim, asked)
        return Inspection(
            at=at,
            spf=await self._confirmed(spf.result(), until, configuration, self._spf, asked),
            dkim=confirmed,
            next_dkim=await self._elsewhere(next_dkim.result(), confirmed, until, configuration),
            ed25519=ed25519.result(),
            advice=advice.result(),
        )

    async def look_for(self, name: str, value: str) -> Observation:
        """Look, past the cache, whether `value` is one of the TXT records at `name`."""
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        asked = Asker(self._resolver, own=name, fresh=True)
        return await self._within(until, self._challenge(name, value, asked), name)

    async def describe(
        self, configuration: Configuration, known: Mapping[Question, Answer] | None = None
    ) -> Description:
        """Look at all records, past the cache, without confirming failures; `known` answers are not asked for."""
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        asked = Asker(self._resolver, own=configuration.domain, fresh=False, known=known)
        domain = configuration.domain
        dkim_at = dkim_name(configuration)
        async with asyncio.TaskGroup() as side_by_side:
            spf = side_by_side.create_task(self._within(until, self._spf(configuration, asked), domain))
            dkim = side_by_side.create_task(self._within(until, self._dkim(configuration, asked), dkim_at))
            dmarc = side_by_side.create_task(self._within(until, self._dmarc(domain, asked), dmarc_name(domain)))
            returns = side_by_side.create_task(self._within(until, self._return_path(domain, asked), domain))
            next_dkim = side_by_side.create_task(self._key(configuration, configuration.next_key, asked, until))
            ed25519 = side_by_side.create_task(self._key(configuration, configuration.ed25519_key, asked, until))
            spare = side_by_side.create_task(self._spare(configuration, asked, until))
            advice = side_by_side.create_task(self._existence(domain, asked, until))
        answer = asked.known.get(Question(domain, "TXT"))
        return Description(
            spf=spf.result(),
            dkim=dkim.result(),
            dmarc=dmarc.result(),
            return_path=returns.result(),
            next_dkim=next_dkim.result(),
            ed25519=ed25519.result(),
            spare_dkim=spare.result(),
            published=answer.values if isinstance(answer, Records) else (),
            lookups=await self._lookups(domain, asked, until),
            advice=advice.result(),
        )

    async def lookups_of(self, domain: str, policy: str) -> int:
        """Count the look-ups a domain's SPF record would need if it were `policy`."""
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        known: dict[Question, Answer] = {Question(domain, "TXT"): Records((policy,))}
        return await self._lookups(domain, Asker(self._resolver, own=domain, fresh=False, known=known), until)

    async def _lookups(self, domain: str, asker: Asker, until: float) -> int:
        """Count the look-ups of the whole record, by an address that no term matches."""
        try:
            async with asyncio.timeout_at(until):
                probe = check_host(NOBODYS_ADDRESS, domain, f"postmaster@{domain}", self._ehlo_name, self._limits)
                return (await asker.drive(probe)).lookups
        except TimeoutError:
            return 0

    async def _confirmed(
        self, seen: Observation, until: float, configuration: Configuration, look: "_Look", asked: Asker
    ) -> Observation:
        """Look again if `seen` is a failure: everything anew, beginning with another server if there is one."""
        servers = [server.text for server in self._resolver.servers]
        if seen.verdict != "fail" or (len(servers) < 2 and not asked.used_cache):
            return seen
        first = (servers.index(seen.resolver) + 1) % len(servers) if seen.resolver in servers else 0
        again = Asker(self._resolver, own=configuration.domain, fresh=True, first=first)
        second = await self._within(until, look(configuration, again), seen.name)
        if second.verdict == "fail":
            return seen
        if second.verdict == "pass" and len(servers) < 2:
            return second  # the failure was in the cache, or gone a moment later
        if second.verdict == "pass":
            told = f"The name servers disagree about {seen.name}: {second.resolver} has it, {seen.resolver} says: "
        else:
            told = f"The failure at {seen.name} could not be confirmed; {seen.resolver} says: "
        return msgspec.structs.replace(seen, verdict="unknown", detail=told + seen.detail)

    async def _elsewhere(
        self, seen: Observation | None, in_use: Observation, until: float, configuration: Configuration
    ) -> Observation | None:
        """Look for the next key at another server too if the one in use is gone: the first may remember its absence."""
        servers = [server.text for server in self._resolver.servers]
        if seen is None or seen.verdict == "pass" or in_use.verdict != "fail" or len(servers) < 2:
            return seen
        first = (servers.index(seen.resolver) + 1) % len(servers) if seen.resolver in servers else 0
        again = Asker(self._resolver, own=configuration.domain, fresh=True, first=first)
        second = await self._key(configuration, configuration.next_key, again, until)
        return seen if second is None or second.verdict == "fail" else second

    async def _within(self, until: float, looking: Awaitable[Observation], name: str) -> Observation:
        try:
            async with asyncio.timeout_at(until):
                return await looking
        except TimeoutError:
            detail = f"The records at {name} could not be looked up within {self._timeout_seconds:g} s."
            return Observation(verdict="unknown", detail=detail, name=name, at=self._clock(), rcode="TIMEOUT")

    async def _spf(self, configuration: Configuration, asker: Asker) -> Observation:
        domain = configuration.domain
        outcomes: dict[str, Outcome] = {}
        for address in self._egress_addresses:
            # The local part of a bounce address is not known beforehand; postmaster is what RFC 7208 §4.3 assumes.
            asking = check_host(address, domain, f"postmaster@{domain}", self._ehlo_name, self._limits)
            outcomes[address] = await asker.drive(asking)
        published = await asker.ask(Question(domain, "TXT"))
        finding = sender_policy.judge(outcomes, domain, configuration.spf_value, published)
        return self._observation(finding, domain, published.evidence)

    async def _dkim(self, configuration: Configuration, asker: Asker) -> Observation:
        return await self._key_at(configuration, configuration.selector, configuration.dkim_value, asker)

    async def _key(
        self, configuration: Configuration, key: PublishedKey | None, asker: Asker, until: float
    ) -> Observation | None:
        """Look at a key beside the one in use, if there is one."""
        if key is None:
            return None
        looking = self._key_at(configuration, key.selector, key.value, asker)
        return await self._within(until, looking, dkim_name(configuration, key.selector))

    async def _spare(self, configuration: Configuration, asker: Asker, until: float) -> Observation | None:
        """Look at the selector a delegated domain keeps for its next rotation."""
        selector = configuration.spare_selector
        if not selector or configuration.next_key is not None:
            return None
        name, target = dkim_name(configuration, selector), f"{selector}.{configuration.dkim_zone}"

        async def look() -> Observation:
            answer = await asker.ask(Question(name, "TXT"))
            return self._observation(dkim_record.judge_alias(answer, name, target), name, answer.evidence)

        return await self._within(until, look(), name)

    async def _key_at(self, configuration: Configuration, selector: str, value: str, asker: Asker) -> Observation:
        name = dkim_name(configuration, selector)
        answer = await asker.ask(Question(name, "TXT"))
        target = f"{selector}.{configuration.dkim_zone}" if configuration.dkim_zone else ""
        return self._observation(dkim_record.judge(answer, name, value, target), name, answer.evidence)

    async def _return_path(self, domain: str, asker: Asker) -> Observation:
        exchangers = await asker.ask(Question(domain, "MX"))
        addresses = [await asker.ask(Question(domain, kind)) for kind in ADDRESS_KINDS]
        return self._observation(return_path.judge(exchangers, tuple(addresses), domain), domain, exchangers.evidence)

    async def _challenge(self, name: str, value: str, asker: Asker) -> Observation:
        answer = await asker.ask(Question(name, "TXT"))
        return self._observation(challenge.judge(answer, name, value), name, answer.evidence)

    async def _dmarc(self, domain: str, asker: Asker) -> Observation:
        answer = await asker.ask(Question(dmarc_name(domain), "TXT"))
        return self._observation(dmarc_record.judge(answer, domain), dmarc_name(domain), answer.evidence)

    async def _existence(self, domain: str, asker: Asker, until: float) -> str:
        """Return a sentence if the domain certainly has no address and no mail exchanger, else ""."""
        try:
            async with asyncio.timeout_at(until):
                for kind in EXISTENCE_KINDS:
                    if not isinstance(await asker.ask(Question(domain, kind)), Absent):
                        return ""
        except TimeoutError:
            return ""
        return (
            f"The domain {domain} has no A, AAAA or MX record, so to receivers it does not exist: publish an MX record."
        )

    def _observation(self, finding: Finding, name: str, evidence: Evidence) -> Observation:
        return Observation(
            verdict=finding.verdict,
            detail=cut(printable(finding.detail), DETAIL_LENGTH),
            name=name,
            at=self._clock(),
            rcode=evidence.rcode,
            resolver=evidence.resolver,
            ttl=evidence.ttl,
            values=kept(finding.values),
        )


def dkim_name(configuration: Configuration, selector: str = "") -> str:
    """Return the name of a configuration's DKIM record, of another selector than the one in use if it is given."""
    return f"{selector or configuration.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1


_Look = Callable[[Configuration, Asker], Awaitable[Observation]]
