"""An attempt at all open recipients of a message: routes them, groups those that share exchangers, sends couriers."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from services.delivery import own_address
from services.delivery.core import outcome, reach, route
from services.delivery.core.lines import stray_line_end
from services.delivery.core.outcome import Deferred, Outcome
from services.delivery.core.route import Door
from services.delivery.core.sts import OPPORTUNISTIC, Demand
from services.delivery.courier import Courier, Visits
from services.delivery.destinations import Destinations
from services.delivery.exchangers import Exchangers
from services.delivery.parcel import Parcel
from services.delivery.session import MayFinish
from services.delivery.settings import DeliverySettings
from shared.contract.envelope import Recipient
from shared.contract.events import ExchangerTried

log = logging.getLogger("delivery")

T = TypeVar("T")

HOSTS_KEPT = 4096
KNOWN_SECONDS = 1.0
"""So long what came of a final dot is kept to ourselves while other destinations are not done.

Each time doubles it, for the record that follows is of all recipients, who may be many at many slow destinations."""


class Demands(Protocol):
    """Who knows what a domain demands of the encryption towards its exchangers."""

    async def of(self, domain: str) -> Demand:
        """Return what a domain demands now."""


class Path(NamedTuple):
    """Where recipients go: those with the same path can share transactions."""

    hosts: tuple[str, ...]
    demand: Demand

    @property
    def group(self) -> str:
        """The exchangers as one destination, whatever order chance gave them."""
        return " ".join(sorted(self.hosts))


class Attempted(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt came to: an outcome for every recipient it was given."""

    outcomes: dict[int, Outcome]
    tried: tuple[ExchangerTried, ...]
    dots: int
    """Final dots sent: 0 means that certainly nobody has the message."""


SoFar = Callable[[Attempted, Callable[[], bool]], Awaitable[bool]]
"""Told what an attempt has come to while it goes on; may ask whether another destination is perhaps at its dot.

False: it is to be told again."""


class Dispatch:
    """Shared by all messages in delivery, so that limits per destination hold across them."""

    def __init__(
        self,
        settings: DeliverySettings,
        exchangers: Exchangers,
        courier: Courier,
        demands: Demands | None = None,
        destinations: Destinations | None = None,
    ) -> None:
        self._settings = settings
        self._demands = demands
        self._exchangers = exchangers
        self._courier = courier
        self._allowed = reach.networks(settings.allowed_networks)
        self._refused = reach.networks((*settings.refused_networks, *settings.egress_addresses))
        self._found = lru_cache(HOSTS_KEPT)(
            partial(
                route.doors,
                allowed=self._allowed,
                refused_networks=self._refused,
                prefer_ipv6=settings.prefer_ipv6,
            )
        )
        """The doors of a host, by what the DNS says of it."""
        self._destinations = destinations or Destinations(settings)

    async def attempt(
        self, parcel: Parcel, recipients: Sequence[Recipient], may_finish: MayFinish, so_far: SoFar | None = None
    ) -> Attempted:
        """Attempt every recipient once. `so_far` hears of those that are decided while others take their time."""
        outcomes: dict[int, Outcome] = {}
        if stray_line_end(parcel.mail):
            # RFC 5321 §2.3.8: CR and LF only together; sent as it is it could end the message early elsewhere.
            bad = outcome.refused("5.6.0", "a line of the message ends in a bare CR or LF", "policy", "content")
            return Attempted(outcomes={r.number: bad for r in recipients}, tried=(), dots=0)
        groups = await self._grouped(recipients, outcomes)
        gate = asyncio.Semaphore(self._settings.message_groups)

        at_dot: set[Path] = set()
        """Destinations that are not done and have asked whether they may send a final dot."""

        async def serve(path: Path, members: list[Recipient]) -> Visits:
            async def ask() -> bool:
                at_dot.add(path)
                return await may_finish()

            try:
                return await in_turn(path, members, ask)
            finally:
                at_dot.discard(path)  # with its result, not before

        async def in_turn(path: Path, members: list[Recipient], ask: MayFinish) -> Visits:
            async with gate, self._destinations.place(path.group, parcel.envelope.configuration):
                try:
                    return await self._unless_paused(path, members, parcel, ask)
                except Exception:
                    # What the other destinations did must still be committed: a fault of ours stays with this one.
                    about = {"queue_id": parcel.envelope.queue_id, "host": path.hosts[0]}
                    log.exception("an attempt failed", extra=about)
                    fault = outcome.ours("4.3.0", "the attempt failed by a fault of this mail system")
                    return Visits(outcomes=dict.fromkeys((r.number for r in members), fault), tried=[])

        async def tell(visits: list[Visits]) -> bool:
            return so_far is None or await so_far(_together(outcomes, visits), lambda: bool(at_dot))

        return _together(outcomes, await _served([serve(path, members) for path, members in groups.items()], tell))

    async def _grouped(
        self, recipients: Sequence[Recipient], outcomes: dict[int, Outcome]
    ) -> dict[Path, list[Recipient]]:
        """Group recipients by exchangers and by what their domains demand; `outcomes` gets those without any."""
        by_domain: dict[str, list[Recipient]] = {}
        for recipient in recipients:
            domain = route.domain_of(recipient.address)
            if isinstance(domain, str):
                by_domain.setdefault(domain, []).append(recipient)
            else:
                outcomes[recipient.number] = domain
        gate = asyncio.Semaphore(self._settings.message_groups)

        async def look(domain: str) -> tuple[route.MxAnswer, Demand]:
            async with gate:
                if self._demands is None:
                    return await self._exchangers.mx(domain), OPPORTUNISTIC
                return await self._exchangers.mx(domain), await self._demands.of(domain)

        answers = await _all([look(domain) for domain in by_domain])
        chances = [random.random() for _ in range(route.EXCHANGERS_LIMIT)]  # noqa: S311 - spreads load, guards nothing
        groups: dict[Path, list[Recipient]] = {}
        for (domain, members), (answer, demand) in zip(by_domain.items(), answers, strict=True):
            found = route.exchangers(domain, answer, chances)
            if isinstance(found, route.Exchangers):
                groups.setdefault(Path(found.hosts, demand), []).extend(members)
            else:
                outcomes.update({r.number: found for r in members})
        return groups

    async def _unless_paused(
        self, path: Path, members: list[Recipient], parcel: Parcel, may_finish: MayFinish
    ) -> Visits:
        """Serve the members unless the breaker of their destination is open."""
        paused = self._destinations.paused(path.group, parcel.pool)
        if paused:
            name = path.hosts[0]
            said = f"{name} is left alone now, its breaker is open ({paused}); its mail waits without being tried"
            waiting = outcome.lost(said, "policy", "4.4.1", host=name)
            return Visits(outcomes=dict.fromkeys((r.number for r in members), waiting), tried=[])
        results: list[Outcome] = []
        try:
            visits = await self._serve(path, members, parcel, may_finish)
            results = list(visits.outcomes.values())
            return visits
        finally:
            self._destinations.tried(path.group, results, parcel.pool)

    async def _serve(self, path: Path, members: list[Recipient], parcel: Parcel, may_finish: MayFinish) -> Visits:
        problems: list[Outcome] = []
        visits = await self._courier.attempt(parcel, members, self._doors(path, problems), may_finish)
        undecided = [r.number for r in members if r.number not in visits.outcomes]
        if undecided:
            failed = [each for each in visits.outcomes.values() if isinstance(each, Deferred) and each.elsewhere]
            if failed:
                reason: Outcome = failed[-1]  # what kept the others keeps those whose transaction was not begun
            elif visits.tried:
                reason = outcome.ours("4.4.5", "there was no time left for this recipient in this attempt")
            else:
                reason = route.no_way(problems, path.hosts[0])
            visits.outcomes.update(dict.fromkeys(undecided, reason))
        return visits

    async def _doors(self, path: Path, problems: list[Outcome]) -> AsyncIterator[Door]:
        """Yield validated addresses, looked up only when the hosts before them did not help."""
        for host in path.hosts:
            if path.demand.enforced and not path.demand.allows(host):  # RFC 8461 §4.1
                said = f"{path.demand.policy} does not name the exchanger {host}; it gets nothing"
                problems.append(outcome.lost(said, "policy", "4.7.5", host=host))
                continue
            six, four = await self._exchangers.addresses(host)
            found = self._found(host, six, four)
            if found.problem is not None:
                problems.append(found.problem)
            for door in found.doors:
                if own_address.is_own(door.address, self._allowed):
                    said = f"{host} leads to {door.address}, which is one of our own addresses"
                    problems.append(outcome.refused("5.4.4", said, "route", "routing", host=host))
                    continue
                yield msgspec.structs.replace(door, demand=path.demand)


def _together(outcomes: dict[int, Outcome], visits: list[Visits]) -> Attempted:
    """Return what several destinations came to; `outcomes` are of recipients that have none."""
    return Attempted(
        outcomes=outcomes | {number: result for visit in visits for number, result in visit.outcomes.items()},
        tried=tuple(tried for visit in visits for tried in visit.tried),
        dots=sum(visit.dots for visit in visits),
    )


async def _served(
    jobs: list[Coroutine[Any, Any, Visits]], tell: Callable[[list[Visits]], Awaitable[bool]]
) -> list[Visits]:
    """Serve destinations side by side; tell of those that are done if others keep them waiting after their dots."""
    if len(jobs) == 1:
        return [await jobs[0]]
    now, patience = asyncio.get_running_loop().time, KNOWN_SECONDS
    due: float | None = None
    async with asyncio.TaskGroup() as tasks:
        all_tasks = [tasks.create_task(job) for job in jobs]
        pending = set(all_tasks)
        while pending:
            left = None if due is None else max(0.0, due - now())
            done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if due is None and any(task.result().dots for task in done):
                due = now() + patience
            if pending and due is not None and now() >= due:
                if await tell([task.result() for task in all_tasks if task not in pending]):
                    due, patience = None, patience * 2
                else:
                    due = now() + patience
    return [task.result() for task in all_tasks]


async def _all(jobs: list[Coroutine[Any, Any, T]]) -> list[T]:
    """Do jobs side by side; most messages have one, which needs no task of its own."""
    if len(jobs) == 1:
        return [await jobs[0]]
    async with asyncio.TaskGroup() as tasks:
        done = [tasks.create_task(job) for job in jobs]
    return [task.result() for task in done]
