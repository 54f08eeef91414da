"""Releases held messages when their gate opens: at once when the snapshot moves, and by a regular review."""

import asyncio
import logging
import random
from datetime import timedelta
from uuid import uuid4

import msgspec

from services.delivery.commit import Commits, Overtaken, StatusUnreadable
from services.delivery.core import record, step
from services.delivery.core.gate import BY_OPERATOR
from services.delivery.gates import Gates
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.stored import Stored
from shared.contract import subjects
from shared.contract.envelope import Carriage, Undecodable, unpack
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.events import MessageHeld, MessageReleased
from shared.contract.subjects import Place, parse_place
from shared.runtime import clock

log = logging.getLogger("delivery")

AT_ONCE = 16
ONE_BY_ONE = 50
"""Configurations whose gates moved are reviewed one by one up to this number, else all held mail at once."""


class Holds:
    """Reviews what lies on `held`. Any number of replicas may do so: each release is checked twice by sequence."""

    def __init__(
        self,
        settings: DeliverySettings,
        shards: int,
        bus: Bus,
        gates: Gates,
        commits: Commits,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._shards = shards
        self._bus = bus
        self._gates = gates
        self._commits = commits
        self._metrics = metrics
        self._opened: set[str] = set()
        self._wake = asyncio.Event()
        gates.on_move(self._moved)

    def _moved(self, configuration: str) -> None:
        if self._gates.hold(configuration) is None:
            self._opened.add(configuration)
            self._wake.set()

    async def run(self) -> None:
        """Review for ever."""
        while True:
            woken = await self._woken()
            opened, self._opened = self._opened, set()
            everything = not woken or len(opened) > ONE_BY_ONE
            try:
                if everything:
                    await self._review("*")
                else:
                    for configuration in opened:
                        await self._review(configuration)
            except BusUnavailable as fault:
                log.warning("held messages could not be reviewed: %s", fault)
                await asyncio.sleep(1)
                self._opened |= opened
                if opened:
                    self._wake.set()

    async def _woken(self) -> bool:
        try:
            async with asyncio.timeout(self._settings.reconcile_seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _review(self, configuration: str) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(place: Place) -> None:
            async with gate:
                if not await self._operators(place):
                    await self.release(place)

        for shard in range(self._shards):
            state = await self._bus.stream_state(*subjects.pattern(shard, "held", configuration))
            places = [place for subject in state.subjects if (place := parse_place(subject)) is not None]
            open_places = [place for place in places if self._gates.hold(place.configuration) is None]
            results = await asyncio.gather(*(one(place) for place in open_places), return_exceptions=True)
            for place, result in zip(open_places, results, strict=True):
                if isinstance(result, BusUnavailable):
                    raise result
                if isinstance(result, BaseException):
                    log.error("not released: %s", result, extra={"queue_id": place.queue_id})

    async def _operators(self, place: Place) -> bool:
        """Return whether an operator holds a message; its mail, which may be large, need not be looked at for that."""
        configuration = self._gates.configuration(place.configuration)
        if configuration is None:
            return False
        last, _ = await self._commits.last_of(configuration.instance, place.configuration, place.queue_id)
        return isinstance(last, MessageHeld) and last.reason == BY_OPERATOR

    async def release(self, place: Place, by: str = "", why: str = "") -> bool:
        """Let a held message go on: at once if somebody asked for it (`by`, `why`), else spread over a time.

        Returns False if it is not held any more or only an operator may release it.

        Errors: `BusUnavailable`; `StoreFull` if somebody asked for it.
        """
        stored = await self._bus.last(place.retry_stream, place.held)
        if stored is None:
            return False
        try:
            carriage, mail = unpack(stored.payload)
        except Undecodable as fault:
            log.error("a held message cannot be read: %s", fault, extra={"queue_id": place.queue_id})
            return False
        held_for = carriage.progress.hold
        if not held_for:
            return False  # released before
        if held_for == BY_OPERATOR and not by and not await self._let_go(carriage):
            return False
        return await self._released(place, stored, carriage, mail, by, why)

    async def _let_go(self, carriage: Carriage) -> bool:
        """Return whether an operator has released it and a crash came before it went on its way."""
        try:
            last, _ = await self._commits.last(carriage.envelope)
        except StatusUnreadable:
            return False
        return isinstance(last, MessageReleased)

    async def _released(self, place: Place, stored: Stored, carriage: Carriage, mail: bytes, by: str, why: str) -> bool:
        envelope, now = carriage.envelope, clock.now()
        spread = 0.0 if by else self._settings.release_spread_seconds * random.random()  # noqa: S311 - spreads load
        at = now + timedelta(seconds=spread)
        try:
            last, sequence = await self._commits.last(envelope)
            state = step.known(carriage, last, sequence)
            if not isinstance(last, MessageReleased) and state.open:
                event = record.released(
                    envelope,
                    state,
                    event_id=str(uuid4()),
                    now=now,
                    next_at=at,
                    by=by,
                    reason=carriage.progress.hold,
                    why=why,
                )
                sequence = await self._commits.record(envelope, event, sequence)
                state = msgspec.structs.replace(state, recipients=event.recipients)
        except Overtaken:
            return False  # another replica releases it, or an operator acted on it
        except StatusUnreadable as fault:
            log.error("not released: %s", fault, extra={"queue_id": place.queue_id})
            return False
        progress = step.progress(state.recipients, state.attempt, sequence, at)
        try:
            moved = await self._commits.reschedule(
                stored, place, msgspec.structs.replace(carriage, progress=progress), mail, at
            )
        except StoreFull as fault:
            if by:
                raise
            log.warning("not released yet: %s", fault, extra={"queue_id": place.queue_id})
            return False
        if moved:
            self._metrics.moves.labels("released").inc()
        return moved
