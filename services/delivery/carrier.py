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

from services.delivery.attempts import Attempts
from services.delivery.commit import Commits, Overtaken, StatusUnreadable
from services.delivery.core import once, record, reporting, retry, staging, step
from services.delivery.core.gate import Hold
from services.delivery.core.outcome import Deferred
from services.delivery.dispatch import Attempted
from services.delivery.gates import Gates
from services.delivery.intents import Intents
from services.delivery.leases import Lease
from services.delivery.message import Message, opened
from services.delivery.metrics import Metrics
from services.delivery.reports import Reports
from services.delivery.settings import DeliverySettings
from services.delivery.suppressions import Suppressions
from shared.bus.client import Bus
from shared.contract.envelope import FINAL, Envelope, RecipientState, Undecodable
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.events import AnyStatus, MessageAttempted, MessageHeld
from shared.contract.subjects import Place
from shared.runtime import clock, logs

log = logging.getLogger("delivery")

ROUNDS = 5
"""Times a step is decided anew because somebody else committed first."""
AWAY_SECONDS = 5.0
HELD_ADVICE = "The message is held and goes on by itself when that changes."
UNREADABLE_SECONDS = 300.0


class Carrier:
    """Takes the steps of messages. One per process; any number of messages at a time, each queue ID once."""

    def __init__(
        self,
        settings: DeliverySettings,
        bus: Bus,
        gates: Gates,
        attempts: Attempts,
        suppressions: Suppressions,
        metrics: Metrics,
        commits: Commits,
        intents: Intents,
        shards: int,
    ) -> None:
        self._settings = settings
        self._bus = bus
        self._gates = gates
        self._attempts = attempts
        self._suppressions = suppressions
        self._metrics = metrics
        self._commits = commits
        self._intents = intents
        self._reports = Reports(settings, commits, gates, shards)
        self._active: set[str] = set()

    async def carry(self, lease: Lease) -> None:
        """Take the next step of a message. Never raises but for cancellation; on any doubt the message comes back."""
        try:
            message = opened(lease)
        except Undecodable as fault:
            await self._quarantine(lease, str(fault))
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
        try:
            message = opened(lease)
        except Undecodable as fault:
            await self._quarantine(lease, str(fault))
            return
        chance = random.random()  # noqa: S311 - spreads load
        until = retry.parked_until(message.carriage.envelope.received_at, clock.now(), chance)
        if await self._put_aside(message, until):
            self._metrics.moves.labels("parked").inc()

    async def _put_aside(self, message: Message, until: datetime) -> bool:
        """Let a message wait outside its consumer, which hands out only so many at a time; False if it could not."""
        progress = msgspec.structs.replace(message.carriage.progress, due_at=until)
        try:
            await self._commits.put_later(message.place, message.carriage.envelope, progress, message.mail, until)
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
        state = step.known(message.carriage, last, sequence)
        if state.outdated and last is not None:
            # A crash may have come between that commit and its consequences: take them again, they are idempotent.
            await self._consequences(message, message.carriage.progress.recipients, last)
        if await self._lies_elsewhere(message, state):
            await message.lease.ack()
            return
        if not state.sequence and (withdrawal := self._gates.withdrawn.get(envelope.queue_id)):
            await self._withdraw(message, state, withdrawal.reason)
            return
        expires_at = self._expires_at(envelope)
        hold = self._gates.hold(envelope.configuration)
        explicit = envelope.expires_at is not None
        match step.next_step(state, now, expires_at, hold, explicit_expiry=explicit):
            case step.Finish():
                await message.lease.ack()
            case step.Wait(until):
                progress = step.progress(state.recipients, state.attempt, state.sequence, until)
                await self._commits.put_later(message.place, envelope, progress, message.mail, until)
                await message.lease.ack()
            case step.Keep(reason, until, committed):
                await self._keep(message, state, reason, until, committed)
            case step.Expire():
                await self._expire(message, state)
            case step.Attempt():
                await self._attempt(message, state, expires_at)

    async def _lies_elsewhere(self, message: Message, state: step.Known) -> bool:
        """Return whether another copy of this message will go on instead of this one.

        Copies yield in one direction only: ready to due, older due to newer due, both to scheduled and held; so one
        always remains.
        """
        place, stream = message.place, f"RETRY_{message.place.shard}"
        from_due = message.lease.subject == place.due
        # A message that was only put aside has a second copy and no newer record: redelivery is the sign of that.
        doubtful = state.outdated or message.lease.deliveries > 1
        if doubtful:
            for subject in (place.later, place.held):
                if await self._bus.last(stream, subject) is not None:
                    return True
        if doubtful or from_due:
            other = await self._bus.last(stream, place.due)
            return other is not None and (not from_due or other.sequence > message.lease.sequence)
        return False

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
        progress = step.progress(recipients, state.attempt, sequence, until)
        progress = msgspec.structs.replace(progress, hold=hold.reason)
        await self._commits.put_held(message.place, envelope, progress, message.mail, until)
        await message.lease.ack()

    async def _withdraw(self, message: Message, state: step.Known, reason: str) -> None:
        """Let go of an untried message whose client was told 451 and sends it again."""
        envelope, now = message.carriage.envelope, clock.now()
        event = record.dropped(envelope, state, event_id=str(uuid4()), now=now, by="Ingress", reason=reason)
        await self._commits.record(envelope, event, state.sequence)
        log.info("withdrawn: %s", reason, extra={"queue_id": envelope.queue_id})
        await message.lease.ack()

    async def _expire(self, message: Message, state: step.Known) -> None:
        envelope, now = message.carriage.envelope, clock.now()
        event = record.expired(envelope, state, event_id=str(uuid4()), now=now)
        await self._commits.record(envelope, event, state.sequence)
        self._metrics.recipients.labels("expired").inc(len(state.open))
        log.info("expired", extra={"queue_id": envelope.queue_id})
        await self._consequences(message, state.recipients, event)
        await message.lease.ack()

    async def _attempt(self, message: Message, state: step.Known, expires_at: datetime) -> None:
        envelope, started = message.carriage.envelope, clock.now()
        configuration = self._gates.configuration(envelope.configuration)
        at_most_once = configuration is not None and configuration.at_most_once
        # A worker that died may have come past the final dot with this very attempt.
        doubtful = await self._intents.doubtful(envelope, state.attempt + 1, message.lease.received_at)
        untouched = state
        broken_off = once.broken_off(state) if at_most_once else {}
        if at_most_once and len(broken_off) < len(state.open):
            state = await self._begun(message, state)
        try:
            attempted = await self._attempts.make(message, untouched, broken_off)
        except (asyncio.CancelledError, Exception):
            # A drain cancels only what has not come to the final dot; the end of a process that fails cancels all.
            if not message.dots and not message.lease.past_dot:
                self._forget(envelope, doubtful)
                if at_most_once:
                    await self._call_off(envelope, untouched, state.sequence)
            raise
        if attempted is None:
            self._forget(envelope, doubtful)
            if at_most_once:
                await self._call_off(envelope, untouched, state.sequence)
            await message.lease.give_back(AWAY_SECONDS)
            return
        if at_most_once:
            attempted = msgspec.structs.replace(attempted, outcomes=once.settled(attempted.outcomes))
        now, before, held_meanwhile = clock.now(), state.recipients, None
        recipients = step.apply(state, attempted.outcomes, now, repeated=doubtful)
        while True:
            event = record.attempted(
                envelope,
                recipients,
                attempt=state.attempt + 1,
                event_id=str(uuid4()),
                now=now,
                started=started,
                next_at=self._next_at(recipients, state.attempt + 1, attempted, now, expires_at),
                tried=attempted.tried,
            )
            try:
                sequence = await self._commits.record(envelope, event, state.sequence)
                self._intents.settle(envelope)
                break
            except Overtaken as fault:
                # Another worker had a copy of it. What we did is done: add it to the record, marked.
                log.warning("two workers had this message", extra={"queue_id": envelope.queue_id})
                self._metrics.alarms.labels("two-workers").inc()
                if isinstance(fault.last, MessageHeld):
                    held_meanwhile = Hold(fault.last.reason, fault.last.explanation)
                now, state = clock.now(), step.known(message.carriage, fault.last, fault.sequence)
                recipients = step.merged(recipients, state.recipients, before, now)
                before = state.recipients
        self._count(message, before, event, attempted, (now - started).total_seconds())
        await self._consequences(message, before, event)
        if held_meanwhile is not None and event.next_attempt_at is not None:
            after = msgspec.structs.replace(
                state, recipients=event.recipients, attempt=event.attempt, sequence=sequence
            )
            await self._keep(message, after, held_meanwhile, expires_at, committed=False)
            return
        if event.next_attempt_at is not None:
            progress = step.progress(event.recipients, event.attempt, sequence, event.next_attempt_at)
            await self._commits.put_later(message.place, envelope, progress, message.mail, event.next_attempt_at)
        await message.lease.ack()

    def _forget(self, envelope: Envelope, doubtful: bool) -> None:
        """Take back the intent of an attempt that came to no dot, unless an earlier one may have."""
        if not doubtful:
            self._intents.settle(envelope)

    async def _begun(self, message: Message, state: step.Known) -> step.Known:
        """Record that an attempt begins; return the state with the sequence of that record."""
        envelope, now = message.carriage.envelope, clock.now()
        event = record.begun(envelope, state, once.begun(state, now), event_id=str(uuid4()), now=now)
        return msgspec.structs.replace(state, sequence=await self._commits.record(envelope, event, state.sequence))

    async def _call_off(self, envelope: Envelope, state: step.Known, begun: int) -> None:
        """Take back the record at sequence `begun`: nothing was sent."""
        event = record.called_off(envelope, state, event_id=str(uuid4()), now=clock.now())
        await self._commits.record(envelope, event, begun)

    def _next_at(
        self,
        recipients: tuple[RecipientState, ...],
        attempt: int,
        attempted: Attempted,
        now: datetime,
        expires_at: datetime,
    ) -> datetime | None:
        """Return when the open recipients are tried again, None if there are none."""
        if all(r.status in FINAL for r in recipients):
            return None
        deferred = [o for o in attempted.outcomes.values() if isinstance(o, Deferred)]
        hint = max((o.wait_seconds for o in deferred), default=0)
        greylisted = any(o.greylisted for o in deferred)
        chance = random.random()  # noqa: S311 - spreads load, guards nothing
        next_at = retry.next_attempt(attempt, self._settings.schedule, now, chance, hint, greylisted=greylisted)
        return min(next_at, expires_at) if expires_at > now else next_at  # later only for one that came late

    async def _consequences(self, message: Message, before: tuple[RecipientState, ...], event: AnyStatus) -> None:
        """Do what a committed record entails: suppressions and reports. Repeating it changes nothing."""
        envelope = message.carriage.envelope
        for recipient in reporting.failed(before, event) if staging.tries_real_mailboxes(envelope.staging) else ():
            if recipient.last is not None and reporting.mailbox_gone(recipient, event.recipients):
                reason = f"{recipient.last.code} {recipient.last.enhanced} {recipient.last.text}".strip()
                at = recipient.at or event.at
                await self._suppressions.add(envelope.configuration, recipient.address, reason, envelope.queue_id, at)
        if not staging.leaves_nothing(envelope.staging):
            await self._reports.send(message, before, event, self._expires_at(envelope))

    def _expires_at(self, envelope: Envelope) -> datetime:
        configuration = self._gates.configuration(envelope.configuration)
        lifetime = (configuration.lifetime_seconds if configuration else None) or self._settings.lifetime_seconds
        return retry.expiry(envelope.received_at, envelope.expires_at, lifetime)

    def _count(
        self,
        message: Message,
        before: tuple[RecipientState, ...],
        event: MessageAttempted,
        attempted: Attempted,
        seconds: float,
    ) -> None:
        envelope = message.carriage.envelope
        self._metrics.attempts.labels(envelope.lane).inc()
        self._metrics.seconds.observe(seconds)
        was = {r.number: r.status for r in before}
        for recipient in event.recipients:
            if was.get(recipient.number) not in FINAL:
                self._metrics.recipients.labels(recipient.status).inc()
        for tried in attempted.tried:
            tls = "verified" if tried.tls_verified else "unverified" if tried.tls else "none"
            self._metrics.connections.labels(tried.phase, tls).inc()
        logs.tell(
            log,
            f"attempt {event.attempt}: {event.status}",
            queue_id=envelope.queue_id,
            configuration=envelope.configuration,
        )

    async def _quarantine(self, lease: Lease, why: str) -> None:
        parts = lease.subject.split(".")
        place = Place(int(parts[2]) if parts[2].isdigit() else 0, "", 0, "", parts[-1])
        self._metrics.alarms.labels("quarantine").inc()
        log.error("a message cannot be read and goes to quarantine: %s", why, extra={"subject": lease.subject})
        try:
            await self._commits.quarantine(place, lease.payload)
        except (BusUnavailable, StoreFull):
            await lease.give_back(AWAY_SECONDS)
            return
        await lease.ack()
