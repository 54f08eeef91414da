"""One check of one configuration: questions asked of DNS, judged by the core, with the evidence kept.

A failure is confirmed before it is believed: everything is asked again, past the cache, beginning with another resolver
where several are configured; a failure that only one of them shows is unknown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from services.verifier.core import dkim_record, sender_policy
from services.verifier.core.answer import Absent, Answer, Evidence, Kind, Question, printable
from services.verifier.core.dkim_record import Finding
from services.verifier.core.spf import Asking, Limits, Outcome, check_host
from services.verifier.core.standing import Inspection
from services.verifier.resolver import Resolver
from shared.contract.records import Configuration, Observation

EXISTENCE_KINDS: tuple[Kind, ...] = ("A", "AAAA", "MX")


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

    async def inspect(self, configuration: Configuration, *, fresh: bool = False) -> Inspection:
        """Check both records; takes no longer than the configured time and never raises for what DNS does.

        What lies in the domain itself is always asked anew, so that each check is a new observation; `fresh` bypasses
        the cache for all else too.
        """
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        asked = _Asker(self._resolver, own=configuration.domain, fresh=fresh)
        async with asyncio.TaskGroup() as both:
            spf = both.create_task(self._within(until, self._spf(configuration, asked), configuration.domain))
            dkim = both.create_task(self._within(until, self._dkim(configuration, asked), dkim_name(configuration)))
            advice = both.create_task(self._existence(configuration.domain, asked, until))
        return Inspection(
            at=self._clock(),
            spf=await self._confirmed(spf.result(), until, configuration, self._spf, asked),
            dkim=await self._confirmed(dkim.result(), until, configuration, self._dkim, asked),
            advice=advice.result(),
        )

    async def _confirmed(
        self, seen: Observation, until: float, configuration: Configuration, look: "_Look", asked: "_Asker"
    ) -> Observation:
        """Look again if `seen` is a failure: everything anew, beginning with another server if there is one."""
        servers = [server.text for server in self._resolver.servers]
        if seen.verdict != "fail" or (len(servers) < 2 and not asked.used_cache):
            return seen
        first = (servers.index(seen.resolver) + 1) % len(servers) if seen.resolver in servers else 0
        again = _Asker(self._resolver, own=configuration.domain, fresh=True, first=first)
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

    async def _within(self, until: float, looking: Awaitable[Observation], name: str) -> Observation:
        try:
            async with asyncio.timeout_at(until):
                return await looking
        except TimeoutError:
            detail = f"The records at {name} could not be looked up within {self._timeout_seconds:g} s."
            return Observation(verdict="unknown", detail=detail, name=name, at=self._clock(), rcode="TIMEOUT")

    async def _spf(self, configuration: Configuration, asker: "_Asker") -> Observation:
        domain = configuration.domain
        outcomes: dict[str, Outcome] = {}
        for address in self._egress_addresses:
            # The local part of a bounce address is not known beforehand; postmaster is what RFC 7208 §4.3 assumes.
            asking = check_host(address, domain, f"postmaster@{domain}", self._ehlo_name, self._limits)
            outcomes[address] = await asker.drive(asking)
        published = await asker.ask(Question(domain, "TXT"))
        finding = sender_policy.judge(outcomes, domain, configuration.spf_value, published)
        return self._observation(finding, domain, published.evidence)

    async def _dkim(self, configuration: Configuration, asker: "_Asker") -> Observation:
        name = dkim_name(configuration)
        answer = await asker.ask(Question(name, "TXT"))
        return self._observation(dkim_record.judge(answer, name, configuration.dkim_value), name, answer.evidence)

    async def _existence(self, domain: str, asker: "_Asker", until: float) -> str:
        """Return a sentence if the domain certainly has no address and no mail exchanger, else ""."""
        try:
            async with asyncio.timeout_at(until):
                for kind in EXISTENCE_KINDS:
                    if not isinstance(await asker.ask(Question(domain, kind)), Absent):
                        return ""
        except TimeoutError:
            return ""
        return f"The domain {domain} has no A, AAAA or MX record: it must exist in DNS before it can send."

    def _observation(self, finding: Finding, name: str, evidence: Evidence) -> Observation:
        return Observation(
            verdict=finding.verdict,
            detail=printable(finding.detail),
            name=name,
            at=self._clock(),
            rcode=evidence.rcode,
            resolver=evidence.resolver,
            ttl=evidence.ttl,
            values=tuple(printable(value) for value in finding.values),
        )


def dkim_name(configuration: Configuration) -> str:
    """Return the name of a configuration's DKIM record."""
    return f"{configuration.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1


class _Asker:
    """Asks within one check: each question once, so that all parts of the check judge the same answers."""

    def __init__(self, resolver: Resolver, *, own: str, fresh: bool, first: int = 0) -> None:
        self._resolver = resolver
        self._own = own
        self._fresh = fresh
        self._first = first
        self._answers: dict[Question, Answer] = {}
        self.used_cache = False

    async def ask(self, question: Question) -> Answer:
        if question not in self._answers:
            fresh = self._fresh or (question.kind == "TXT" and _is_in(question.name, self._own))
            self.used_cache |= not fresh and self._resolver.holds(question)
            self._answers[question] = await self._resolver.ask(question, fresh=fresh, first=self._first)
        return self._answers[question]

    async def drive(self, asking: Asking) -> Outcome:
        """Run an SPF evaluation to its end."""
        try:
            question = next(asking)
            while True:
                question = asking.send(await self.ask(question))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


def _is_in(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)


_Look = Callable[[Configuration, _Asker], Awaitable[Observation]]
