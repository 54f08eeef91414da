"""Commits of delivery: STATUS records, and the moves of messages that may only follow them.

A record is stored with the expected last sequence of its subject and PubAck'd before the message is moved or acked.
No answer of the bus means unknown: the same is repeated until it is certain.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from shared.bus.client import Bus
from shared.bus.stored import Stored
from shared.contract import subjects
from shared.contract.envelope import Carriage, Envelope, Undecodable, pack, unpack
from shared.contract.errors import UNREADABLE, BusUnavailable, StoreFull, WrongSequence
from shared.contract.events import AnyStatus
from shared.contract.subjects import Place

log = logging.getLogger("delivery")

STATUS = "STATUS"
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyStatus] = msgspec.json.Decoder(AnyStatus)


class Overtaken(Exception):
    """Somebody else committed first; `last` is the present record (None if it was removed) at `sequence`."""

    def __init__(self, last: AnyStatus | None, sequence: int) -> None:
        super().__init__("another record came first")
        self.last = last
        self.sequence = sequence


class StatusUnreadable(Exception):
    """The last STATUS record is of no version this program knows: nothing may be done to its message."""


class Commits:
    """Writes STATUS and RETRY. `patient` is asked after each failure whether to go on trying."""

    def __init__(self, bus: Bus, patient: Callable[[], bool]) -> None:
        self._bus = bus
        self._patient = patient

    async def last(self, envelope: Envelope) -> tuple[AnyStatus | None, int]:
        """Return the last STATUS record of a message and its sequence; (None, 0) if there is none.

        Errors: `BusUnavailable`, `StatusUnreadable`.
        """
        return await self.last_of(envelope.instance, envelope.configuration, envelope.queue_id)

    async def last_of(self, instance: str, configuration: str, queue_id: str) -> tuple[AnyStatus | None, int]:
        """Return the same of a message of which only the names are known. Errors: the same."""
        stored = await self._bus.last(STATUS, subjects.status(instance, configuration, queue_id))
        return (None, 0) if stored is None else (_decoded(stored), stored.sequence)

    async def record(self, envelope: Envelope, event: AnyStatus, expected: int) -> int:
        """Commit a record after the one at sequence `expected`; return its own sequence, once it is durable.

        Errors: `Overtaken`, `StatusUnreadable`; `BusUnavailable` only if patience ended.
        """
        body = _encoder.encode(event)

        async def store() -> int:
            try:
                return await self._bus.store(
                    _subject(envelope), body, stream=STATUS, message_id=event.id, expected_last=expected
                )
            except WrongSequence:
                last, sequence = await self.last(envelope)
                if last is not None and last.id == event.id:
                    return sequence  # an earlier try was stored and its answer lost
                raise Overtaken(last, sequence) from None

        return await self.persistently(store, "commit")

    async def put_later(self, place: Place, carriage: Carriage, mail: bytes, at: datetime) -> None:
        """Store the copy that comes back at a time; one there that rests on the same record is as good."""
        await self._schedule(place.later, place, carriage, mail, at)

    async def put_held(self, place: Place, carriage: Carriage, mail: bytes, until: datetime) -> None:
        """Store the copy that waits for the gate, or for its expiry."""
        await self._schedule(place.held, place, carriage, mail, until)

    async def put_unread(self, place: Place, payload: bytes, at: datetime) -> None:
        """Store a message of a later version as it is, to come back at a time; one there already is as good."""

        async def store() -> None:
            with contextlib.suppress(WrongSequence):
                await self._bus.store(
                    place.later,
                    payload,
                    stream=place.retry_stream,
                    expected_last=0,
                    schedule_at=at,
                    schedule_target=place.due,
                )

        await self.persistently(store, "move")

    async def reschedule(self, stored: Stored, place: Place, carriage: Carriage, mail: bytes, at: datetime) -> bool:
        """Replace a scheduled copy by one that falls due at `at`; False if it moved meanwhile.

        Errors: `BusUnavailable`, `StoreFull`.
        """
        try:
            await self._bus.store(
                stored.subject,
                pack(carriage, mail),
                stream=place.retry_stream,
                expected_last=stored.sequence,
                schedule_at=at,
                schedule_target=place.due,
                rollup=True,
            )
        except WrongSequence:
            return False
        return True

    async def put_due(self, place: Place, carriage: Carriage, mail: bytes) -> None:
        """Store a message (a report of delivery's own) as due at once; one that is there already is as good."""
        payload = pack(carriage, mail)

        async def store() -> int:
            try:
                return await self._bus.store(place.due, payload, stream=place.retry_stream, expected_last=0)
            except WrongSequence:
                return 0

        await self.persistently(store, "report")

    async def quarantine(self, place: Place, payload: bytes) -> None:
        """Store a message nobody can read where no consumer takes it; its octets are kept as they are."""

        async def store() -> int:
            try:
                return await self._bus.store(place.quarantine, payload, stream=place.mail_stream, expected_last=0)
            except WrongSequence:
                return 0

        await self.persistently(store, "quarantine")

    async def _schedule(self, subject: str, place: Place, carriage: Carriage, mail: bytes, at: datetime) -> None:
        payload = pack(carriage, mail)

        async def store() -> None:
            try:
                await self._bus.store(
                    subject,
                    payload,
                    stream=place.retry_stream,
                    expected_last=0,
                    schedule_at=at,
                    schedule_target=place.due,
                )
            except WrongSequence:
                # A copy waits there: the move was made before; or it is an older one, which comes at another time.
                present = await self._bus.last(place.retry_stream, subject)
                if present is not None and _committed(present) < carriage.progress.committed:
                    await self.reschedule(present, place, carriage, mail, at)

        await self.persistently(store, "move")

    async def persistently(self, act: Callable[[], Awaitable[T]], what: str) -> T:
        """Repeat what has no certain answer of the bus; it must change nothing if it was done before.

        Errors: `BusUnavailable`, `StoreFull` once patience has ended.
        """
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await act()
            except (BusUnavailable, StoreFull) as fault:
                log.warning("the %s is not certain yet, trying again: %s", what, fault)
                if not self._patient():
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _subject(envelope: Envelope) -> str:
    return subjects.status(envelope.instance, envelope.configuration, envelope.queue_id)


def _committed(stored: Stored) -> int:
    """Return the record a copy rests on; of one that cannot be read, the highest: it is left alone."""
    try:
        return unpack(stored.payload)[0].progress.committed
    except Undecodable:
        return sys.maxsize


def _decoded(stored: Stored) -> AnyStatus:
    try:
        return _decoder.decode(stored.payload)
    except UNREADABLE as fault:
        raise StatusUnreadable(f"the status record at {stored.sequence} cannot be read: {fault}") from fault
