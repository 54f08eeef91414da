"""Carries one message one step further: reads what has happened to it, decides, acts, commits, moves, acks.

Nothing is done to a message before its last STATUS record was read, and it is neither moved nor acked before the
record of what was done is durable. A crash at any point repeats or resumes the step.
"""

import asyncio
import logging
import random
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec

from services.delivery import copies
from services.delivery.announcements import Announcements
from services.delivery.attempts import Attempts
from services.delivery.commit import Commits, Overtaken, StatusUnreadable
from services.delivery.consequences import Consequences
from services.delivery.core import belated, record, retry, step
from services.delivery.core.gate import Hold
from services.delivery.core.outcome import Outcome
from services.delivery.gates import Gates
from services.delivery.intents import Intents
from services.delivery.interim import Interim
from services.delivery.leases import AWAY_SECONDS, Lease
from services.delivery.message import Message
from services.delivery.metrics import Metrics
from services.delivery.reader import UNREADABLE_SECONDS, Reader
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.contract.envelope import FINAL, Envelope, RecipientState
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.events import MessageHeld
from shared.runtime import clock, logs

log = logging.getLogger("delivery")

ROUNDS = 5
"""Times a step is decided anew because somebody else committed first."""
HELD_ADVICE = "The message is held and goes on by itself when that changes."


class Carrier:
    """Takes the steps of messages. One per process; any number of messages at a time, each queue ID once."""

    def __init__(
        self,
        settings: DeliverySettings,
        bus: Bus,
        gates: Gates,
        attempts: Attempts,
        consequences: Consequences,
        metrics: Metrics,
        commits: Commits,
        announcements: Announcements,
        intents: Intents,
    ) -> None:
        self._settings = settings
        self._reader = Reader(commits, metrics, settings.lifetime_seconds)
        self._bus = bus
        self._gates = gates
        self._attempts = attempts
        self._consequences = consequences
        self._metrics = metrics
        self._commits = commits
        self._announcements = announcements
        self._intents = intents
        self._active: set[str] = set()

    async def carry(self, lease: Lease) -> None:
        """Take the next step of a message. Never raises but for cancellation; on any doubt the message comes back."""
        message = await self._reader.read(lease)
        if message is None:
            return
        queue_id = message.carriage.envelope.queue_id
        if queue_id in self._active:
            await lease.give_back(AWAY_SECONDS)  # another copy of it is in delivery in this very process
            return
        self._active.add(queue_id)
        try:
            await self._steps(message)
        except StatusUnreadable as fault:
            self._metrics.alarms.labels("status-unreadable").inc()
            log.error("not touched: %s", fault, extra={"queue_id": queue_id})
            await self._put_aside(message, clock.now() + timedelta(seconds=UNREADABLE_SECONDS))
        except (BusUnavailable, StoreFull) as fault:
            log.warning("the bus is away or full, the message will come back: %s", fault, extra={"queue_id": queue_id})
            await message.lease.give_back(AWAY_SECONDS)
        except Exception:
            self._metrics.alarms.labels("fault").inc()
            log.exception("a fault of ours, the message will come back", extra={"queue_id": queue_id})
            await self._put_aside(message, clock.now() + timedelta(seconds=UNREADABLE_SECONDS))
        finally:
            self._active.discard(queue_id)

    async def park(self, lease: Lease) -> None:
        """Put a message aside for a while, untried, because its tenant has no place. Never raises."""
        message = await self._reader.read(lease)
        if message is None:
            return
        chance = random.random()  # noqa: S311 - spreads load
        until = retry.parked_until(message.carriage.envelope.received_at, clock.now(), chance)
        if await self._put_aside(message, until):
            self._metrics.moves.labels("parked").inc()

    async def _put_aside(self, message: Message, until: datetime) -> bool:
        """Let a message wait outside its consumer, which hands out only so many at a time; False if it could not."""
        progress = msgspec.structs.replace(message.carriage.progress, due_at=until)
        try:
            await self._commits.put_later(message.place, message.moved(progress), message.mail, until)
        except (BusUnavailable, StoreFull):
            await message.lease.give_back(AWAY_SECONDS)
            return False
        await message.lease.ack()
        return True

    async def _steps(self, message: Message) -> None:
        for _ in range(ROUNDS):
            try:
                await self._step(message)
                return
            except Overtaken:
                continue  # read again and decide again
        await message.lease.give_back(AWAY_SECONDS)

    async def _step(self, message: Message) -> None:
        envelope, now = message.carriage.envelope, clock.now()
        last, sequence = await self._commits.last(envelope)
        expires_at = self._expires_at(envelope)
        state = step.known(message.carriage, last, sequence)
        if state.outdated and last is not None:
            # A crash may have come between that commit and its consequences: take them again, they are idempotent.
            await self._consequences.take(message, message.carriage.progress.recipients, last, expires_at)
        if await copies.superseded(self._bus, message, state):
            await message.lease.ack()
            return
        if not state.sequence and (withdrawal := self._gates.withdrawn.get(envelope.queue_id)):
            await self._withdraw(message, state, withdrawal.reason)
            return
        fresh = not state.sequence and message.lease.subject == message.place.ready
        if fresh and belated.may_be_withdrawn(envelope.received_at, message.lease.stored_at, message.lease.deliveries):
            await message.lease.give_back(belated.WITHDRAWAL_SECONDS)
            return
        hold = self._gates.hold(envelope.configuration)
        explicit = envelope.expires_at is not None
        match step.next_step(state, now, expires_at, hold, explicit_expiry=explicit):
            case step.Finish():
                await message.lease.ack()
            case step.Wait(until):
                progress = step.progress(state.recipients, state.attempt, state.sequence, until)
                await self._commits.put_later(message.place, message.moved(progress), message.mail, until)
                await message.lease.ack()
            case step.Keep(reason, until, committed):
                await self._keep(message, state, reason, until, committed)
            case step.Expire():
                await self._expire(message, state, expires_at)
            case step.Attempt():
                await self._attempt(message, state, expires_at)

    async def _keep(self, message: Message, state: step.Known, hold: Hold, until: datetime, committed: bool) -> None:
        envelope, now = message.carriage.envelope, clock.now()
        sequence, recipients = state.sequence, state.recipients
        if not committed:
            event = record.held(
                envelope,
                state,
                hold,
                until,
                event_id=str(uuid4()),
                now=now,
                advice=HELD_ADVICE,
            )
            recipients = event.recipients
            sequence = await self._commits.record(envelope, event, state.sequence)
            self._metrics.moves.labels("held").inc()
            log.info("held: %s", hold.sentence, extra={"queue_id": envelope.queue_id})
        progress = step.progress(recipients, state.attempt, sequence, until, hold=hold.reason)
        await self._commits.put_held(message.place, message.moved(progress), message.mail, until)
        await message.lease.ack()

    async def _withdraw(self, message: Message, state: step.Known, reason: str) -> None:
        """Let go of an untried message whose client was told 451 and sends it again."""
        envelope, now = message.carriage.envelope, clock.now()
        event = record.dropped(envelope, state, event_id=str(uuid4()), now=now, by="Ingress", reason=reason)
        await self._commits.record(envelope, event, state.sequence)
        log.info("withdrawn: %s", reason, extra={"queue_id": envelope.queue_id})
        await message.lease.ack()

    async def _expire(self, message: Message, state: step.Known, expires_at: datetime) -> None:
        envelope, now = message.carriage.envelope, clock.now()
        event = record.expired(envelope, state, event_id=str(uuid4()), now=now)
        await self._commits.record(envelope, event, state.sequence)
        self._metrics.recipients.labels("expired").inc(len(state.open))
        log.info("expired", extra={"queue_id": envelope.queue_id})
        await self._consequences.take(message, state.recipients, event, expires_at)
        await message.lease.ack()

    async def _attempt(self, message: Message, state: step.Known, expires_at: datetime) -> None:
        envelope, started = message.carriage.envelope, clock.now()
        announcement = await self._announcements.announce(message, state)
        interim = Interim(
            message,
            announcement,
            started,
            expires_at,
            self._commits,
            self._consequences,
            self._intents,
            self._metrics,
        )
        try:
            attempted = await self._attempts.make(message, state, announcement.broken_off, interim)
        except (asyncio.CancelledError, Exception):
            # A drain cancels only what has not come to the final dot; the end of a process that fails cancels all.
            if not message.dots and not message.lease.past_dot:
                await self._announcements.take_back(envelope, announcement)
            raise
        if attempted is None:
            await self._announcements.take_back(envelope, announcement)
            await message.lease.give_back(AWAY_SECONDS)
            return
        await interim.conclude()
        reported, state = state.recipients, interim.state
        outcomes = announcement.settled(attempted.outcomes)
        rest = {number: result for number, result in outcomes.items() if number not in interim.committed}
        tried = tuple(each for each in attempted.tried if each not in interim.tried)
        now, before, held_meanwhile = clock.now(), state.recipients, None
        recipients = step.apply(state, rest, now, repeated=announcement.doubtful)
        while True:
            event = record.attempted(
                envelope,
                recipients,
                attempt=state.attempt + 1,
                event_id=str(uuid4()),
                now=now,
                started=started,
                next_at=self._next_at(recipients, outcomes, now, expires_at),
                tried=tried,
            )
            try:
                sequence = await self._commits.record(envelope, event, state.sequence)
                self._announcements.settle(envelope)
                break
            except Overtaken as fault:
                # Somebody else did something to it. What we did is done: add it to the record, marked.
                if record.by_operator(fault.last):
                    log.info("an operator acted on it meanwhile", extra={"queue_id": envelope.queue_id})
                else:
                    log.warning("two workers had this message", extra={"queue_id": envelope.queue_id})
                    self._metrics.alarms.labels("two-workers").inc()
                if isinstance(fault.last, MessageHeld):
                    held_meanwhile = Hold(fault.last.reason, fault.last.explanation, fault.last.by_relay)
                now, state = clock.now(), step.known(message.carriage, fault.last, fault.sequence)
                recipients = step.merged(recipients, state.recipients, before, now)
                before = state.recipients
        self._metrics.attempted(envelope.lane, before, event, (now - started).total_seconds())
        logs.tell(
            log,
            f"attempt {event.attempt}: {event.status}",
            queue_id=envelope.queue_id,
            configuration=envelope.configuration,
        )
        await self._consequences.take(message, reported, event, expires_at)
        if held_meanwhile is not None and event.next_attempt_at is not None:
            after = msgspec.structs.replace(
                state, recipients=event.recipients, attempt=event.attempt, sequence=sequence
            )
            await self._keep(message, after, held_meanwhile, expires_at, committed=False)
            return
        if held_meanwhile is not None:
            # The hold came too late: the copy it has put away falls due now, is seen to be decided and goes.
            progress = step.progress(event.recipients, event.attempt, sequence, now)
            await self._commits.put_held(message.place, message.moved(progress), message.mail, now)
        if event.next_attempt_at is not None:
            progress = step.progress(event.recipients, event.attempt, sequence, event.next_attempt_at)
            await self._commits.put_later(message.place, message.moved(progress), message.mail, event.next_attempt_at)
        await message.lease.ack()

    def _next_at(
        self,
        recipients: tuple[RecipientState, ...],
        outcomes: dict[int, Outcome],
        now: datetime,
        expires_at: datetime,
    ) -> datetime | None:
        chance = random.random()  # noqa: S311 - spreads load, guards nothing
        schedule = self._settings.schedule
        attempt = max((r.attempts for r in recipients if r.status not in FINAL), default=1)
        return retry.after_attempt(attempt, recipients, outcomes.values(), schedule, now, chance, expires_at)

    def _expires_at(self, envelope: Envelope) -> datetime:
        configuration = self._gates.configuration(envelope.configuration)
        return retry.expiry(envelope, configuration, self._settings.lifetime_seconds)
