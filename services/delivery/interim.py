"""What an attempt has come to while some destinations keep it waiting: committed before its end.

A crash then repeats only what was not decided. Each such commit is the record of an attempt like any other, with a
number of its own, and what is still under way belongs to the next number: so every report has its identity, and the
intents that another worker finds speak only of those who were at their dots and are not recorded. What was merely
deferred is not committed early, for nothing is lost if it is tried again.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from uuid import uuid4

import msgspec

from services.delivery.announcements import Announcement
from services.delivery.commit import Commits, Overtaken
from services.delivery.consequences import Consequences
from services.delivery.core import once, record, step
from services.delivery.core.outcome import Deferred, Outcome
from services.delivery.dispatch import Attempted
from services.delivery.intents import Intents
from services.delivery.message import Message
from services.delivery.metrics import Metrics
from shared.contract.envelope import RecipientState
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.events import ExchangerTried, MessageAttempted
from shared.runtime import clock, logs

log = logging.getLogger("delivery")


class _Open(msgspec.Struct, frozen=True):
    """A record that is not certain yet, and what is known once it is."""

    event: MessageAttempted
    before: tuple[RecipientState, ...]
    after: step.Known
    numbers: frozenset[int]


class Interim:
    """The early commits of one attempt; a message with one destination has none."""

    def __init__(
        self,
        message: Message,
        announcement: Announcement,
        started: datetime,
        expires_at: datetime,
        commits: Commits,
        consequences: Consequences,
        intents: Intents,
        metrics: Metrics,
    ) -> None:
        self._message = message
        self._announcement = announcement
        self._started = started
        self._expires_at = expires_at
        self._commits = commits
        self._consequences = consequences
        self._intents = intents
        self._metrics = metrics
        self._before = announcement.before.recipients
        self._record: _Open | None = None
        self._owed: MessageAttempted | None = None
        """Committed, and its consequences are not taken."""
        self._ended = False
        self.state = msgspec.structs.replace(announcement.before, sequence=announcement.sequence)
        """What is known of the message, with what was committed early."""
        self.attempt = self.state.attempt + 1
        """The attempt that a final dot belongs to from now on."""
        self.committed: frozenset[int] = frozenset()
        """Recipients, by number, that need not be committed again."""
        self.tried: frozenset[ExchangerTried] = frozenset()
        """The visits that are in a record."""

    async def commit(self, so_far: Attempted, at_dot: Callable[[], bool]) -> bool:
        """Commit what is decided for good or in doubt. `at_dot`: whether anybody else may have come to a final dot.

        False if it is not certain yet. Never raises but for cancellation: the end of the attempt commits the rest.
        """
        if self._ended:
            return True
        try:
            await self._settle()
            outcomes = self._counting(so_far.outcomes)
            if not outcomes:
                return True
            self.attempt = self.state.attempt + 2
            # Whoever is at a dot now is no longer found under the number that this record takes.
            if at_dot() and not await self._declared():
                return False
            self._record = self._made(so_far, outcomes)
            await self._settle()
        except Overtaken as fault:
            self._overtaken(fault)
        except (BusUnavailable, StoreFull) as fault:
            log.warning("what is decided is not committed yet: %s", fault, extra=self._about)
            return False
        except Exception:
            self._owed, self._ended = None, True
            self._metrics.alarms.labels("fault").inc()
            log.exception("a fault of ours, the rest is committed at the end of the attempt", extra=self._about)
        return True

    async def conclude(self) -> None:
        """Make certain what was begun; the attempt's own record follows.

        Errors: `BusUnavailable`, `StoreFull`, `StatusUnreadable`.
        """
        try:
            await self._settle()
        except Overtaken as fault:
            self._overtaken(fault)
        self._ended = True

    async def _declared(self) -> bool:
        if self._announcement.at_most_once:
            return True  # in STATUS, where they stay as they are
        return await self._intents.declare(self._message.carriage.envelope, self.attempt)

    def _overtaken(self, fault: Overtaken) -> None:
        """Leave it to the end of the attempt to add what was done to somebody else's record."""
        self._record, self._ended = None, True
        self.attempt = 1 + (fault.last.attempt if fault.last is not None else self.state.attempt)

    def _counting(self, outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
        return {
            number: result
            for number, result in self._announcement.settled(outcomes).items()
            if number not in self.committed and (not isinstance(result, Deferred) or result.ambiguous)
        }

    def _made(self, so_far: Attempted, outcomes: dict[int, Outcome]) -> _Open:
        now, state = clock.now(), self.state
        decided = step.apply(state, outcomes, now, repeated=self._announcement.doubtful)
        after = msgspec.structs.replace(state, recipients=decided, attempt=state.attempt + 1)
        shown = decided
        if self._announcement.at_most_once:  # those that are still tried stay announced
            others = msgspec.structs.replace(state, recipients=tuple(r for r in decided if r.number not in outcomes))
            begun = {r.number: r for r in once.begun(others, now)}
            shown = tuple(begun.get(r.number, r) for r in decided)
        event = record.attempted(
            self._message.carriage.envelope,
            shown,
            attempt=after.attempt,
            event_id=str(uuid4()),
            now=now,
            started=self._started,
            next_at=None,
            tried=tuple(t for t in so_far.tried if not outcomes.keys().isdisjoint(t.recipients)),
            goes_on=True,
        )
        return _Open(event, state.recipients, after, frozenset(outcomes))

    async def _settle(self) -> None:
        """Bring the open record and its consequences to their end; both may be repeats."""
        if (made := self._record) is not None:
            sequence = await self._commits.record(self._message.carriage.envelope, made.event, self.state.sequence)
            self.state = msgspec.structs.replace(made.after, sequence=sequence)
            self.committed |= made.numbers
            self.tried |= set(made.event.exchangers)
            self._record, self._owed = None, made.event
            self._metrics.attempted_in_part(made.before, made.event)
            logs.tell(
                log,
                f"attempt {made.event.attempt}: {made.event.status}, it goes on",
                queue_id=made.event.queue_id,
                configuration=made.event.configuration,
            )
        if (owed := self._owed) is not None:
            take = partial(self._consequences.take, self._message, self._before, owed, self._expires_at)
            await self._commits.persistently(take, "report")
            self._owed = None

    @property
    def _about(self) -> dict[str, str]:
        return {"queue_id": self._message.carriage.envelope.queue_id}
