"""Announcements: what others must find if a worker dies in an attempt, for then nobody knows whether the mail was sent.

Every attempt declares its intent just before its final dot (`intents`). For configurations that ask for at most once
a record in STATUS says before the attempt that it has begun, and takes it back if nothing was sent.
"""

from uuid import uuid4

import msgspec

from services.delivery.commit import Commits
from services.delivery.core import once, record, step
from services.delivery.core.outcome import Outcome
from services.delivery.gates import Gates
from services.delivery.intents import Intents
from services.delivery.message import Message
from shared.contract.envelope import Envelope
from shared.runtime import clock


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What is known and was said before an attempt."""

    before: step.Known
    doubtful: bool
    """A worker that died may have come past the final dot with this very attempt."""
    at_most_once: bool
    broken_off: dict[int, Outcome]
    """Recipients, by number, that are given up because an attempt at them began and its end is not known."""
    sequence: int
    """Sequence of the last STATUS record: of the announcement, if there was something to announce."""

    def settled(self, outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
        """Return the outcomes to commit: at most once makes an ambiguous one final."""
        return once.settled(outcomes) if self.at_most_once else outcomes


class Announcements:
    """Makes announcements and takes them back."""

    def __init__(self, gates: Gates, commits: Commits, intents: Intents) -> None:
        self._gates = gates
        self._commits = commits
        self._intents = intents

    async def announce(self, message: Message, state: step.Known) -> Announcement:
        """Announce an attempt at the open recipients.

        Errors: `BusUnavailable`, `Overtaken`, `StatusUnreadable`.
        """
        envelope = message.carriage.envelope
        configuration = self._gates.configuration(envelope.configuration)
        at_most_once = configuration is not None and configuration.at_most_once
        doubtful = await self._intents.doubtful(envelope, state.attempt + 1, message.lease.received_at)
        broken_off = once.broken_off(state) if at_most_once else {}
        sequence = state.sequence
        if at_most_once and len(broken_off) < len(state.open):
            now = clock.now()
            event = record.begun(envelope, state, once.begun(state, now), event_id=str(uuid4()), now=now)
            sequence = await self._commits.record(envelope, event, sequence)
        return Announcement(
            before=state, doubtful=doubtful, at_most_once=at_most_once, broken_off=broken_off, sequence=sequence
        )

    async def take_back(self, envelope: Envelope, made: Announcement) -> None:
        """Say that nothing was sent. The intent stays if an earlier try of the attempt may have come to a dot.

        Errors: as of `announce`.
        """
        if not made.doubtful:
            self._intents.settle(envelope)
        if made.at_most_once:
            event = record.called_off(envelope, made.before, event_id=str(uuid4()), now=clock.now())
            await self._commits.record(envelope, event, made.sequence)

    def settle(self, envelope: Envelope) -> None:
        """Forget an attempt that is committed."""
        self._intents.settle(envelope)
