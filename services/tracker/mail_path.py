"""What lies on the mail path, as the streams tell it. Read only: the tracker never moves a message."""

import asyncio
import logging

from services.tracker.core.audit import Path, add_lying
from shared.bus.client import Bus
from shared.contract.envelope import Envelope, Undecodable, unpack
from shared.contract.subjects import mail_stream, parse_place, pattern, retry_stream, shard_of

log = logging.getLogger("tracker")


class MailPath:
    """The streams MAIL and RETRY of every shard. Every method may raise `BusUnavailable`."""

    def __init__(self, bus: Bus, shards: int) -> None:
        self._bus = bus
        self._shards = shards

    async def everything(self) -> Path:
        """Return all queue IDs on the path.

        A move stores the successor before the copy goes away, and moves go from MAIL to RETRY: read in this order, a
        moving message is seen in one of them. RETRY's own moves may hide one from a single reading.
        """
        path = Path(queued=set(), quarantined=set())
        for stream_of in (mail_stream, retry_stream):
            for shard in range(self._shards):
                state = await self._bus.stream_state(stream_of(shard), ">")
                await asyncio.to_thread(add_lying, path, state.subjects)
        return path

    async def holds(self, queue_id: str) -> bool:
        """Return whether a message lies anywhere on the path, in quarantine included."""
        for stream, wanted in self._places(queue_id):
            if (await self._bus.stream_state(stream, wanted)).subjects:
                return True
        return False

    async def envelope(self, queue_id: str) -> Envelope | None:
        """Return a message's envelope; None if the message is not there (any more) or cannot be read."""
        for stream, wanted in self._places(queue_id):
            for subject in (await self._bus.stream_state(stream, wanted)).subjects:
                stored = await self._bus.last(stream, subject) if parse_place(subject) is not None else None
                if stored is None:
                    continue
                try:
                    envelope = unpack(stored.payload)[0].envelope
                except Undecodable as fault:
                    log.warning("a message on the mail path cannot be read: %s", fault, extra={"queue_id": queue_id})
                    return None
                return envelope if envelope.queue_id == queue_id else None
        return None

    def _places(self, queue_id: str) -> tuple[tuple[str, str], ...]:
        shard = shard_of(queue_id, self._shards)
        return (
            pattern(shard, "ready", queue_id=queue_id),
            pattern(shard, queue_id=queue_id),
            pattern(shard, "quarantine", queue_id=queue_id),
        )
