"""The work of a replica: schedule and standings are kept in step with the directory, and due checks are done."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from services.verifier.advice import Advice
from services.verifier.checker import Checker
from services.verifier.core.notice import Occasions
from services.verifier.core.recheck import first_check
from services.verifier.core.standing import Inspection
from services.verifier.measures import Measures
from services.verifier.notices import Notices
from services.verifier.rota import Lease, Rota
from services.verifier.standings import Noted, Standings
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract import errors
from shared.contract.errors import BusUnavailable, RecordUnreadable, RequestFailed, StoreFull
from shared.contract.records import Authorization, Configuration, DirectoryRecord, Record
from shared.contract.requests import (
    ChallengeSeen,
    DescribeRecords,
    LookForChallenge,
    RecordsSeen,
    Verified,
    VerifyNow,
)
from shared.contract.standing import Observation, Standing

log = logging.getLogger("verifier")

PREFIX = "configuration."
IDLE_SECONDS = 1.0
RETRY_SECONDS = 2.0
RECONCILE_SECONDS = 300.0
BACKLOG_SECONDS = 0.5
"""No check is begun while DNS questions wait longer than this for their turn, so that begun ones end in time."""
BEGUN_AT_ONCE = 10
BREATH_SECONDS = 0.05
"""Between the beginnings of so many checks, to see what they ask."""
BATCH = 50
"""Configurations brought in step at the same time."""


class Rounds:
    """One replica at work; `work` and `keep_in_step` are its two tasks."""

    def __init__(
        self,
        bus: Bus,
        rota: Rota,
        standings: Standings,
        checker: Checker,
        advice: Advice,
        occasions: Occasions,
        measures: Measures,
        *,
        at_once: int,
        first_spread: timedelta,
        unknown_alarm: timedelta,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        self._directory: Replica[Record] = Replica(bus, "directory", DirectoryRecord, self._on_directory)
        self._directory_bucket: Bucket[Record] = Bucket(bus, "directory", DirectoryRecord)
        self._rota = rota
        self._standings = standings
        self._checker = checker
        self._advice = advice
        self._notices = Notices(bus, occasions, self._contacts)
        self._measures = measures
        self._free = {False: at_once, True: max(at_once // 4, 1)}
        """Checks that may be begun; domains last found doubtful have a part of their own, for they are slow."""
        self._first_spread = first_spread
        self._unknown_alarm = unknown_alarm
        self._clock = clock
        self._chance = chance
        self._known: dict[str, tuple[str, ...]] = {}
        self._out_of_step: set[str] = set()
        self._step = asyncio.Event()
        self._on_demand: dict[str, asyncio.Future[Standing]] = {}

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load directory and schedule, waiting for the bus."""
        await self._directory.start(tasks)
        await self._rota.start(tasks)
        self._out_of_step.clear()  # what was loaded is compared in one go

    async def work(self, stopping: asyncio.Event) -> None:
        """Do due checks until told to stop, then finish those in hand."""
        async with asyncio.TaskGroup() as in_hand:
            while not stopping.is_set():
                begun = 0
                if self._checker.backlog_seconds < BACKLOG_SECONDS:
                    for doubtful, free in self._free.items():
                        for configuration in self._rota.due(min(free, BEGUN_AT_ONCE), doubtful=doubtful):
                            self._free[doubtful] -= 1
                            begun += 1
                            in_hand.create_task(self._turn(configuration, doubtful), name=f"check of {configuration}")
                self._measures.overdue_seconds.set(self._rota.overdue_seconds())
                if begun or not self._free[False] or self._checker.backlog_seconds >= BACKLOG_SECONDS:
                    await asyncio.sleep(BREATH_SECONDS)
                else:
                    await self._rota.wait(IDLE_SECONDS, doubtful_too=self._free[True] > 0)

    async def keep_in_step(self) -> None:
        """Follow the directory: new configurations get a standing and a place on the rota, deleted ones lose them."""
        await self._compare_all()
        while True:
            self._step.clear()
            while self._out_of_step:
                batch = [self._out_of_step.pop() for _ in range(min(len(self._out_of_step), BATCH))]
                async with asyncio.TaskGroup() as steps:
                    for configuration in batch:
                        steps.create_task(self._one_step(configuration))
            try:
                async with asyncio.timeout(RECONCILE_SECONDS):
                    await self._step.wait()
            except TimeoutError:
                await self._compare_all()

    async def _one_step(self, configuration: str) -> None:
        try:
            await self._bring_in_step(configuration)
        except (BusUnavailable, StoreFull) as fault:
            log.warning("configuration %s could not be brought in step: %s", configuration, fault)
            await asyncio.sleep(RETRY_SECONDS)
            self._out_of_step.add(configuration)

    async def verify(self, request: VerifyNow) -> Verified:
        """Check a configuration now, past every cache; those who ask meanwhile share the check.

        Errors: `RequestFailed` if there is no such configuration; `BusUnavailable`.
        """
        configuration = await self._wanted(request.configuration)
        running = self._on_demand.get(configuration.id)
        if running is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                return Verified(standing=running.result())
        running = asyncio.get_running_loop().create_future()
        self._on_demand[configuration.id] = running
        try:
            noted = await self._check(configuration, fresh=True)
            running.set_result(noted.standing)
        finally:
            del self._on_demand[configuration.id]
            running.cancel()  # without effect once it has its result
        due_at = noted.standing.next_check_at or self._clock()
        await self._rota.reschedule(configuration.id, due_at, _seen(noted.standing))
        return Verified(standing=noted.standing)

    async def describe(self, request: DescribeRecords) -> RecordsSeen:
        """Tell what a configuration's domain publishes now; no standing changes.

        Errors: `RequestFailed` if there is no such configuration; `BusUnavailable`.
        """
        configuration = await self._wanted(request.configuration)
        return await self._advice.describe(configuration, ask_authorities=request.authorities)

    async def look_for_challenge(self, request: LookForChallenge) -> ChallengeSeen:
        """Tell whether a proof is published; nothing is kept of it."""
        return ChallengeSeen(observation=await self._checker.look_for(request.name, request.value))

    async def _wanted(self, configuration_id: str) -> Configuration:
        configuration = await self._configuration(configuration_id)
        if configuration is None:
            raise RequestFailed(
                errors.CONFIGURATION_UNKNOWN, f"there is no configuration {configuration_id}: check its ID"
            )
        return configuration

    async def _turn(self, configuration_id: str, doubtful: bool) -> None:
        """Lease one check, do it, give it back. Bus trouble leaves it to the lease to run out."""
        try:
            lease = await self._rota.lease(configuration_id)
            if lease is not None:
                await self._leased(lease)
        except RecordUnreadable as fault:
            log.error("the check of %s is put off: %s", configuration_id, fault)
            self._rota.later(configuration_id, RECONCILE_SECONDS)
        except (BusUnavailable, StoreFull) as fault:
            log.warning("the check of %s is put off: %s", configuration_id, fault)
            self._rota.later(configuration_id, RETRY_SECONDS)
        finally:
            self._free[doubtful] += 1

    async def _leased(self, lease: Lease) -> None:
        configuration_id = lease.check.configuration
        if lease.was_abandoned:
            await self._standings.repeat(configuration_id)
        configuration = await self._configuration(configuration_id)
        if configuration is None:
            self._out_of_step.add(configuration_id)
            self._step.set()
            return
        noted = await self._check(configuration, fresh=False)
        due_at = noted.standing.next_check_at or self._clock()
        if noted.standing.owed:  # the bus did not take a notice
            due_at = min(due_at, self._clock() + timedelta(seconds=RETRY_SECONDS))
        present = self._directory.get(PREFIX + configuration_id)
        if isinstance(present, Configuration) and _keys_of(present) != _keys_of(configuration):
            due_at = self._clock()  # its key was changed while the old one was looked for
        doubtful = any(seen.verdict == "unknown" for seen in _seen(noted.standing))
        await self._rota.give_back(lease, due_at, _seen(noted.standing), doubtful=doubtful)

    async def _check(self, configuration: Configuration, *, fresh: bool) -> Noted:
        found = await self._checker.inspect(configuration, fresh=fresh)
        self._measures.checks.labels(found.verdict).inc()
        noted = await self._standings.note(configuration, found)
        self._tell(noted, found)
        return noted._replace(standing=await self._notices.settle(configuration, noted.standing, noted.revision))

    def _tell(self, noted: Noted, found: Inspection) -> None:
        standing = noted.standing
        about = {"configuration": standing.configuration, "domain": standing.domain}
        if noted.moved_from is not None:
            self._measures.moves.labels(standing.state).inc()
            level = logging.WARNING if standing.state in ("degraded", "suspended") else logging.INFO
            told = (standing.domain, standing.state, noted.moved_from, standing.reason)
            log.log(level, "%s: %s, was %s: %s", *told, extra=about)
        if standing.unknown_since is not None and found.at - standing.unknown_since > self._unknown_alarm:
            self._measures.unknown_alarms.inc()
            log.error(
                "%s: DNS has not been able to say since %s, the standing stays %s: %s",
                standing.domain, standing.unknown_since.isoformat(), standing.state, standing.reason, extra=about,
            )  # fmt: skip

    def _contacts(self, configuration_id: str) -> tuple[str, ...]:
        """Return who is to be told about a configuration: the contacts of its questionnaire."""
        record = self._directory.get(f"authorization.{configuration_id}")
        return record.questionnaire.contacts if isinstance(record, Authorization) else ()

    async def _configuration(self, configuration_id: str) -> Configuration | None:
        """Return a configuration from the snapshot, or from the bucket if it is newer than that."""
        record = self._directory.get(PREFIX + configuration_id)
        if record is None:
            entry = await self._directory_bucket.get(PREFIX + configuration_id) if _is_key(configuration_id) else None
            record = entry.record if entry else None
        return record if isinstance(record, Configuration) else None

    async def _bring_in_step(self, configuration_id: str) -> None:
        configuration = await self._configuration(configuration_id)
        if configuration is None:
            # The bucket itself was asked, not only the snapshot: a late snapshot must not delete a standing.
            await self._rota.forget(configuration_id)
            await self._standings.forget(configuration_id)
            self._known.pop(configuration_id, None)
            return
        await self._standings.ensure(configuration)
        now = self._clock()
        await self._rota.ensure(configuration_id, first_check(now, self._first_spread, self._chance()))
        key = _keys_of(configuration)
        if self._known.setdefault(configuration_id, key) != key:
            self._known[configuration_id] = key  # it was changed: look soon whether the new one is published
            await self._rota.reschedule(configuration_id, now)

    async def _compare_all(self) -> None:
        """Find what slipped through: configurations without standing or check, and the other way round."""
        try:
            standings = {standing.configuration: standing for standing in await self._standings.all()}
        except BusUnavailable as fault:
            log.warning("the standings could not be compared with the directory: %s", fault)
            return
        configurations = set()
        for _, record in self._directory.items(PREFIX):
            if isinstance(record, Configuration):
                configurations.add(record.id)
                self._known.setdefault(record.id, _keys_of(record))
        checks = set(self._rota.configurations())
        self._out_of_step |= (configurations ^ standings.keys()) | (configurations ^ checks)
        self._measures.count(standings.values())

    def _on_directory(self, key: str, record: Record | None) -> None:
        if key.startswith(PREFIX):
            self._out_of_step.add(key.removeprefix(PREFIX))
            self._step.set()


def _is_key(configuration_id: str) -> bool:
    return (
        bool(configuration_id)
        and all(c.isalnum() or c in "-_" for c in configuration_id)
        and configuration_id.isascii()
    )


def _keys_of(configuration: Configuration) -> tuple[str, ...]:
    """Return what a check looks for; when it changes, the next check is due at once."""
    others = [key.value for key in (configuration.next_key, configuration.ed25519_key) if key is not None]
    return configuration.selector, configuration.dkim_value, *others


def _seen(standing: Standing) -> tuple[Observation, ...]:
    return tuple(o for o in (standing.spf, standing.dkim) if o is not None)
