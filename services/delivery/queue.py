"""Queue operations: list what lies on the mail path; retry, hold, release or drop one message.

An operation commits a STATUS record like everything else; scheduled copies that are outdated by it notice when they
fall due, so nothing is ever deleted.
"""

import logging
from datetime import timedelta
from uuid import uuid4

import msgspec

from services.delivery.commit import Commits, Overtaken, StatusUnreadable
from services.delivery.core import record, retry, step
from services.delivery.core.gate import BY_OPERATOR, Hold
from services.delivery.gates import Gates
from services.delivery.holds import Holds
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.contract import errors, subjects
from shared.contract.envelope import Carriage, Progress, Undecodable, unpack
from shared.contract.errors import RequestFailed, StoreFull
from shared.contract.events import AnyStatus, MessageHeld
from shared.contract.requests import ListQueue, QueueActed, QueueAction, QueueEntry, QueueListing
from shared.contract.subjects import Place, parse_place, shard_of
from shared.mail.ids import parse_queue_id
from shared.runtime import clock

log = logging.getLogger("delivery")

PLACES = ("ready", "due", "later", "held")
LISTING_LIMIT = 1000


class _Found(msgspec.Struct, frozen=True):
    place: Place
    where: str
    carriage: Carriage
    mail: bytes


class Queue:
    """Answers control. Handlers raise `RequestFailed` for what cannot be done."""

    def __init__(
        self, settings: DeliverySettings, shards: int, bus: Bus, gates: Gates, commits: Commits, holds: Holds
    ) -> None:
        self._settings = settings
        self._shards = shards
        self._bus = bus
        self._gates = gates
        self._commits = commits
        self._holds = holds

    async def list(self, wish: ListQueue) -> QueueListing:
        """List messages, oldest first (queue IDs sort by time)."""
        if wish.where and wish.where not in PLACES:
            raise RequestFailed(errors.BAD_REQUEST, f"`where` must be one of {', '.join(PLACES)}")
        entries: list[QueueEntry] = []
        for where in [wish.where] if wish.where else PLACES:
            for shard in range(self._shards):
                stream, wanted = subjects.pattern(shard, where, wish.configuration or "*")
                state = await self._bus.stream_state(stream, wanted)
                for subject in state.subjects:
                    if place := parse_place(subject):
                        entries.append(
                            QueueEntry(queue_id=place.queue_id, configuration=place.configuration, where=where)
                        )
        entries.sort(key=lambda entry: entry.queue_id)
        limit = max(1, min(wish.limit, LISTING_LIMIT))
        return QueueListing(entries=tuple(entries[:limit]), total=len(entries))

    async def act(self, wish: QueueAction) -> QueueActed:
        """Act on one message; idempotent, recorded in STATUS where the message's state changes."""
        queue_id = parse_queue_id(wish.queue_id)
        if queue_id is None:
            raise RequestFailed(errors.BAD_REQUEST, f"{wish.queue_id!r} is not a queue ID")
        found = await self._find(queue_id)
        if found is None or (wish.instances is not None and found.carriage.envelope.instance not in wish.instances):
            raise RequestFailed(errors.QUEUED_MESSAGE_UNKNOWN, f"no message {queue_id} is in the queue")
        log.info("queue operation: %s", wish.action, extra={"queue_id": queue_id, "by": wish.by})
        try:
            match wish.action:
                case "retry":
                    acted = await self._retry(found, wish)
                case "hold":
                    acted = await self._hold(found, wish)
                case "release":
                    acted = await self._release(found, wish)
                case "drop":
                    acted = await self._drop(found, wish)
                case _:
                    raise RequestFailed(errors.BAD_REQUEST, "the action must be retry, hold, release or drop")
        except Overtaken:
            raise RequestFailed(
                errors.ACTION_NOT_POSSIBLE, f"message {queue_id} was being delivered at that moment; try again"
            ) from None
        except (StatusUnreadable, StoreFull) as fault:
            raise RequestFailed(errors.ACTION_NOT_POSSIBLE, str(fault)) from None
        return msgspec.structs.replace(acted, instance=found.carriage.envelope.instance)

    async def _find(self, queue_id: str) -> _Found | None:
        """Find the copy that stands for the message: a waiting one before one that is about to be delivered."""
        shard = shard_of(queue_id, self._shards)
        for where in reversed(PLACES):
            stream, wanted = subjects.pattern(shard, where, queue_id=queue_id)
            for subject in (await self._bus.stream_state(stream, wanted)).subjects:
                place = parse_place(subject)
                stored = await self._bus.last(stream, subject) if place is not None else None
                if place is None or stored is None:
                    continue
                try:
                    return _Found(place, where, *unpack(stored.payload))
                except Undecodable as fault:
                    raise RequestFailed(errors.ACTION_NOT_POSSIBLE, f"the message cannot be read: {fault}") from None
        return None

    async def _retry(self, found: _Found, wish: QueueAction) -> QueueActed:
        envelope, queue_id = found.carriage.envelope, found.place.queue_id
        if found.where in ("ready", "due"):
            return QueueActed(sentence=f"Message {queue_id} is about to be tried anyway.")
        if found.where == "held":
            raise RequestFailed(errors.ACTION_NOT_POSSIBLE, f"message {queue_id} is held; release it instead")
        last, sequence = await self._commits.last(envelope)
        state = step.known(found.carriage, last, sequence)
        self._must_be_open(state, queue_id)
        if sequence:  # what was never tried has no record, and may be withdrawn yet
            event = record.hastened(
                envelope, state, event_id=str(uuid4()), now=clock.now(), by=wish.by, reason=wish.reason
            )
            sequence = await self._commits.record(envelope, event, sequence)
        if not await self._now(found, step.progress(state.recipients, state.attempt, sequence, None)):
            raise RequestFailed(errors.ACTION_NOT_POSSIBLE, f"message {queue_id} moved at that moment; try again")
        return QueueActed(sentence=f"Message {queue_id} is tried now instead of at its time.")

    async def _hold(self, found: _Found, wish: QueueAction) -> QueueActed:
        envelope, queue_id, now = found.carriage.envelope, found.place.queue_id, clock.now()
        by_relay = wish.instances is None
        last, sequence = await self._commits.last(envelope)
        if found.where == "held" and found.carriage.progress.hold == BY_OPERATOR and not (by_relay > _of_relay(last)):
            return QueueActed(sentence=f"Message {queue_id} is held already.")
        state = step.known(found.carriage, last, sequence)
        self._must_be_open(state, queue_id)
        configuration = self._gates.configuration(envelope.configuration)
        until = retry.expiry(envelope, configuration, self._settings.lifetime_seconds)
        hold = Hold(BY_OPERATOR, f"{wish.by} holds the message: {wish.reason or 'no reason given'}.", by_relay)
        event = record.held(envelope, state, hold, until, event_id=str(uuid4()), now=now)
        sequence = await self._commits.record(envelope, event, sequence)
        progress = step.progress(event.recipients, state.attempt, sequence, until, hold=BY_OPERATOR)
        await self._commits.put_held(
            found.place, msgspec.structs.replace(found.carriage, progress=progress), found.mail, until
        )
        return QueueActed(sentence=f"Message {queue_id} is held until {until:%Y-%m-%d %H:%M} UTC or until released.")

    async def _release(self, found: _Found, wish: QueueAction) -> QueueActed:
        queue_id = found.place.queue_id
        hold = self._gates.hold(found.place.configuration)
        if hold is not None:
            raise RequestFailed(errors.ACTION_NOT_POSSIBLE, f"message {queue_id} cannot go: {hold.sentence}")
        last, _ = await self._commits.last(found.carriage.envelope)
        if wish.instances is not None and _of_relay(last):
            raise RequestFailed(
                errors.ACTION_NOT_POSSIBLE,
                f"message {queue_id} is held by whoever runs the relay, and only they release it",
            )
        if found.where != "held" or not await self._holds.release(found.place, wish.by, wish.reason):
            return QueueActed(sentence=f"Message {queue_id} is not held.")
        return QueueActed(sentence=f"Message {queue_id} goes on its way.")

    async def _drop(self, found: _Found, wish: QueueAction) -> QueueActed:
        envelope, queue_id, now = found.carriage.envelope, found.place.queue_id, clock.now()
        last, sequence = await self._commits.last(envelope)
        state = step.known(found.carriage, last, sequence)
        self._must_be_open(state, queue_id)
        event = record.dropped(envelope, state, event_id=str(uuid4()), now=now, by=wish.by, reason=wish.reason)
        await self._commits.record(envelope, event, sequence)
        if found.where in ("later", "held"):
            await self._now(found)  # its copy falls due, is seen to be decided and goes
        return QueueActed(sentence=f"Message {queue_id} is dropped; {len(state.open)} recipients will not get it.")

    async def _now(self, found: _Found, progress: Progress | None = None) -> bool:
        """Have a waiting copy fall due at once, with `progress` if that is given; False if it has moved."""
        subject = found.place.held if found.where == "held" else found.place.later
        stored = await self._bus.last(found.place.retry_stream, subject)
        if stored is None:
            return False
        carriage, mail = unpack(stored.payload)
        now = clock.now() + timedelta(milliseconds=50)
        progress = msgspec.structs.replace(progress or carriage.progress, due_at=now)
        carriage = msgspec.structs.replace(carriage, progress=progress)
        return await self._commits.reschedule(stored, found.place, carriage, mail, now)

    def _must_be_open(self, state: step.Known, queue_id: str) -> None:
        if not state.open:
            raise RequestFailed(errors.ACTION_NOT_POSSIBLE, f"every recipient of message {queue_id} is decided already")


def _of_relay(last: AnyStatus | None) -> bool:
    """Return whether whoever runs the relay holds a message."""
    return isinstance(last, MessageHeld) and last.by_relay
