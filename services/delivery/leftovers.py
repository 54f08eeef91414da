"""Finds messages that lie where nobody will take them any more, and puts them on their way again.

A killed nats-server may remember that a message was acked and still have it: its consumer never hands it out again, and
it would count as queued for ever. What such a message needs is decided like everything else, by whoever takes it from
`due`: mostly its STATUS is final, and it is let go.
"""

import asyncio
import logging

import msgspec

from services.delivery.commit import Commits
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.permissions import consumer_names
from shared.bus.settings import Topology
from shared.bus.stored import Stored
from shared.bus.streams import PullConsumer
from shared.contract.catalog import CONSUMERS
from shared.contract.envelope import Progress, Undecodable, unpack
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.subjects import parse_place

log = logging.getLogger("delivery")

PIPES = ("MAIL_{s}", "RETRY_{s}")


class Leftovers:
    """Looks, for each consumer of the mail path, at what lies below everything it still waits for."""

    def __init__(
        self, settings: DeliverySettings, topology: Topology, bus: Bus, commits: Commits, metrics: Metrics
    ) -> None:
        self._seconds = settings.sweep_seconds
        self._bus = bus
        self._commits = commits
        self._metrics = metrics
        self._consumers = [
            each for declared in CONSUMERS if declared.stream in PIPES for each in consumer_names(declared, topology)
        ]

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.sweep()
            except (BusUnavailable, StoreFull) as fault:
                log.warning("leftovers could not be looked for: %s", fault)

    async def sweep(self) -> int:
        """Look once at every consumer; return how many messages were put on their way again.

        Errors: `BusUnavailable`, `StoreFull`.
        """
        moved = 0
        for stream, name, subject_filter in self._consumers:
            floor = await PullConsumer(self._bus, stream, name).floor()
            async for stored in self._bus.scan(stream, subject_filter, batch=1):
                if stored.sequence > floor:
                    break
                moved += await self._moved(stream, stored)
        return moved

    async def _moved(self, stream: str, stored: Stored) -> bool:
        place = parse_place(stored.subject)
        try:
            carriage, mail = unpack(stored.payload)
        except Undecodable:
            carriage = None
        if place is None or carriage is None:
            return False  # what nobody can read was put to quarantine before it was acked
        if stored.subject == place.due:
            try:
                await self._bus.store(
                    stored.subject, stored.payload, stream=stream, expected_last=stored.sequence, rollup=True
                )
            except WrongSequence:
                return False  # another worker did it
        else:
            await self._commits.put_due(place, msgspec.structs.replace(carriage, progress=Progress()), mail)
            if not await self._bus.remove(stream, stored.sequence):
                return False  # another worker did it; or the stream is of a version that denied it
        self._metrics.alarms.labels("leftover").inc()
        log.warning("acked, but still there: looked at again", extra={"queue_id": place.queue_id})
        return True
