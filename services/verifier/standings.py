"""Writing standings: each check's outcome is written by compare-and-set, each change of state is broadcast."""

import asyncio
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from services.verifier.core.notice import Occasions, owed
from services.verifier.core.recheck import Intervals, next_check
from services.verifier.core.standing import Inspection, Policy, apply, fresh, overtaken
from shared.bus.client import Bus
from shared.bus.kv import Bucket, Entry
from shared.contract import subjects
from shared.contract.errors import BusUnavailable, WrongSequence
from shared.contract.events import StandingChanged
from shared.contract.records import Configuration
from shared.contract.standing import Standing, StandingState

ATTEMPTS = 8
RETRY_SECONDS = 0.25


class Noted(NamedTuple):
    """A standing as written, its revision, and the state it moved from, if it moved."""

    standing: Standing
    revision: int
    moved_from: StandingState | None


class Standings:
    """The bucket `standing`, of which the verifier is the one writer."""

    def __init__(
        self,
        bus: Bus,
        policy: Policy,
        intervals: Intervals,
        occasions: Occasions,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        self._bus = bus
        self._bucket: Bucket[Standing] = Bucket(bus, "standing", Standing)
        self._policy = policy
        self._intervals = intervals
        self._occasions = occasions
        self._clock = clock
        self._chance = chance

    async def ensure(self, configuration: Configuration) -> None:
        """Give a configuration its first standing, pending, if it has none.

        Errors: `BusUnavailable`.
        """
        try:
            await self._bucket.create(configuration.id, fresh(configuration, self._clock()))
        except WrongSequence:
            return

    async def note(self, configuration: Configuration, found: Inspection) -> Noted:
        """Write what a check found, unless a later one is written, and broadcast the change of state, if it is one.

        Errors: `BusUnavailable` if the bus stays away; then nothing is known and the check is to be repeated.
        """
        tried: Standing | None = None
        moved: StandingState | None = None
        for attempt in range(ATTEMPTS):
            entry = await self._bucket.get(configuration.id)
            if entry is not None and tried is not None and entry.record == tried:
                noted = Noted(tried, entry.revision, moved)  # the write that nobody confirmed had taken effect
                break
            if entry is not None and overtaken(entry.record, found):
                return Noted(entry.record, entry.revision, None)
            before = entry.record if entry else fresh(configuration, found.at)
            step = apply(before, found, self._policy)
            due_at = next_check(step.standing, found.at, self._intervals, self._chance())
            tried = msgspec.structs.replace(owed(step, found.at, self._occasions), next_check_at=due_at)
            moved = step.moved_from
            try:
                noted = Noted(tried, await self._write(entry, tried), moved)
                break
            except WrongSequence:
                continue
            except BusUnavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        else:
            raise BusUnavailable(f"the standing of {configuration.id} is written by too many at once")
        if noted.moved_from is not None:
            await self.announce(noted.standing, noted.revision, noted.moved_from)
        return noted

    async def announce(self, standing: Standing, revision: int, was: StandingState | None) -> None:
        """Broadcast a standing; `was` None: it may have been broadcast before.

        Errors: `BusUnavailable`.
        """
        event = StandingChanged(
            id=secrets.token_hex(16),
            at=standing.since,
            instance=standing.instance,
            configuration=standing.configuration,
            domain=standing.domain,
            was=was or "unknown",
            now=standing.state,
            reason=standing.reason,
            revision=revision,
        )
        await self._bus.publish(subjects.suspension(standing.configuration), msgspec.json.encode(event))

    async def repeat(self, configuration: str) -> None:
        """Broadcast the present standing again: a replica died and may not have come to it.

        Errors: `BusUnavailable`.
        """
        entry = await self._bucket.get(configuration)
        if entry is not None:
            await self.announce(entry.record, entry.revision, None)

    async def forget(self, configuration: str) -> None:
        """Delete the standing of a configuration that is no more.

        Errors: `BusUnavailable`.
        """
        if await self._bucket.get(configuration) is not None:
            await self._bucket.delete(configuration)

    async def all(self) -> list[Standing]:
        """Return every standing.

        Errors: `BusUnavailable`.
        """
        return [entry.record for entry in await self._bucket.entries()]

    async def _write(self, entry: Entry[Standing] | None, standing: Standing) -> int:
        if entry is None:
            return await self._bucket.create(standing.configuration, standing)
        return await self._bucket.update(standing.configuration, standing, entry.revision)
