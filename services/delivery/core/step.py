"""What to do next with a message: from its carriage, the last STATUS record, the time and the gate.

Where a message is, is its subject; what has happened to it, is its last STATUS record. The carriage may be older than
that record (a crash came between commit and move): then the record decides and the interrupted move is made again.
"""

from datetime import datetime, timedelta

import msgspec

from services.delivery.core.gate import BY_OPERATOR, Hold
from services.delivery.core.outcome import Bounced, Captured, Deferred, Delivered, Outcome, Suppressed
from shared.contract.envelope import (
    FINAL,
    Carriage,
    Diagnosis,
    Envelope,
    Progress,
    RecipientState,
    RecipientStatus,
    overall,
)
from shared.contract.events import AnyStatus, MessageHeld


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a message before the next step."""

    attempt: int
    """Attempts committed so far."""
    recipients: tuple[RecipientState, ...]
    sequence: int
    """Sequence of the last STATUS record, the one the next record is expected to follow; 0: none."""
    outdated: bool
    """The copy in hand rests on an older record than the last one: its successor may lie elsewhere."""
    due_at: datetime | None = None
    """When the next attempt is due, if that is known."""
    hold: str = ""
    """Reason of the hold the message is in, "" if it is in none."""

    @property
    def open(self) -> tuple[RecipientState, ...]:
        """Recipients that are not decided yet."""
        return tuple(r for r in self.recipients if r.status not in FINAL)


class Finish(msgspec.Struct, frozen=True):
    """Every recipient is decided: let the message go."""


class Attempt(msgspec.Struct, frozen=True):
    """Try the open recipients now."""


class Wait(msgspec.Struct, frozen=True):
    """An attempt is committed and its time has not come: put the message where it waits (the move may be a repeat)."""

    until: datetime


class Keep(msgspec.Struct, frozen=True):
    """Hold the message."""

    hold: Hold
    until: datetime
    committed: bool
    """The hold is in STATUS already; only the move is to be repeated."""


class Expire(msgspec.Struct, frozen=True):
    """The lifetime is over with recipients still open."""


LATE = timedelta(hours=1)
"""A message that comes so long after it was due met a clock that jumped, or a long outage."""

Step = Finish | Attempt | Wait | Keep | Expire


def known(carriage: Carriage, last: AnyStatus | None, last_sequence: int) -> Known:
    """Merge the carriage and the last STATUS record; the newer of the two is the truth.

    STATUS forgets records after some days; then `last` is None and the carriage alone speaks.
    """
    progress = carriage.progress
    if last is not None and (last_sequence > progress.committed or not progress.recipients):
        return Known(
            attempt=last.attempt,
            recipients=last.recipients,
            sequence=last_sequence,
            outdated=last_sequence > progress.committed,
            due_at=last.next_attempt_at,
            hold=last.reason if isinstance(last, MessageHeld) else "",
        )
    return Known(
        attempt=progress.attempt,
        recipients=progress.recipients or queued(carriage.envelope),
        sequence=last_sequence,
        outdated=False,
        due_at=progress.due_at,
        hold=progress.hold,
    )


def queued(envelope: Envelope) -> tuple[RecipientState, ...]:
    """Return the states of a message that nothing has happened to yet."""
    return tuple(
        RecipientState(number=r.number, address=r.address, status="queued", at=envelope.received_at)
        for r in envelope.recipients
    )


def next_step(state: Known, now: datetime, expires_at: datetime, hold: Hold | None, *, explicit_expiry: bool) -> Step:
    """Return the next step of a message that is in hand.

    `explicit_expiry`: the sender set the deadline itself, so it holds for a message never tried, or late, too.
    """
    if not state.open:
        return Finish()
    if state.hold == BY_OPERATOR:
        hold = Hold(BY_OPERATOR, "An operator holds this message; release it with `postlane queue release`.")
    # A jump of the clock or a long outage must not expire mail that was never tried; its lifetime is ours, not its own.
    # Of an attempt that was broken off, those that are open may not have been tried.
    tried = any(r.attempts or r.status == "deferred" for r in state.open) if state.attempt else False
    tried = tried or explicit_expiry or hold is not None
    # Nor is it the message's fault that it comes late: it is tried, or held, once more before it is given up.
    late = not explicit_expiry and state.due_at is not None and now - state.due_at > LATE
    if now >= expires_at and tried and not late:
        return Expire()
    if hold is not None:
        return Keep(hold, max(expires_at, now + LATE) if late else expires_at, committed=state.hold == hold.reason)
    if state.outdated and state.due_at is not None and state.due_at > now:
        return Wait(state.due_at)
    return Attempt()


def apply(
    state: Known, outcomes: dict[int, Outcome], now: datetime, *, repeated: bool = False
) -> tuple[RecipientState, ...]:
    """Return the cumulative states after an attempt; `outcomes` by recipient number, for open recipients only.

    `repeated`: an earlier worker may have delivered this message and died before its commit.
    """
    return tuple(
        _applied(r, outcomes[r.number], now, repeated) if r.number in outcomes and r.status not in FINAL else r
        for r in state.recipients
    )


def _applied(state: RecipientState, outcome: Outcome, now: datetime, repeated: bool) -> RecipientState:
    status: RecipientStatus
    doubtful = state.possible_duplicate
    match outcome:
        case Delivered():
            status, doubtful = "delivered", doubtful or repeated
        case Deferred(ambiguous=ambiguous):
            status, doubtful = "deferred", doubtful or ambiguous
        case Bounced():
            status = "bounced"
        case Suppressed():
            status = "suppressed"
        case Captured():
            status = "captured"
    attempts = state.attempts + (0 if status in ("suppressed", "captured") else 1)
    return msgspec.structs.replace(
        state, status=status, attempts=attempts, at=now, last=outcome.diagnosis, possible_duplicate=doubtful
    )


def closed(
    state: Known, status: RecipientStatus, now: datetime, diagnosis: Diagnosis | None = None
) -> tuple[RecipientState, ...]:
    """Return the states with every open recipient moved to `status`; a given diagnosis fills in for a missing one."""
    return tuple(
        r
        if r.status in FINAL
        else msgspec.structs.replace(r, status=status, at=now, last=r.last if r.last is not None else diagnosis)
        for r in state.recipients
    )


def merged(
    ours: tuple[RecipientState, ...],
    theirs: tuple[RecipientState, ...],
    committed: tuple[RecipientState, ...],
    now: datetime,
) -> tuple[RecipientState, ...]:
    """Merge the result of our attempt into a record somebody else committed meanwhile.

    `committed` is what both started from, `now` the time of the merged record. A delivery is never forgotten; two of
    them are a duplicate.
    """
    before = {r.number: r for r in committed}
    other = {r.number: r for r in theirs}
    result: list[RecipientState] = []
    for mine in ours:
        his = other.get(mine.number, mine)
        start = before.get(mine.number)
        if start is not None and start.status in FINAL:
            result.append(his)
        elif mine.status == "delivered" and his.status == "delivered":
            result.append(msgspec.structs.replace(mine, at=now, possible_duplicate=True))
        elif mine.status == "delivered" or (mine.status in FINAL and his.status not in FINAL):
            result.append(msgspec.structs.replace(mine, at=now))
        else:
            doubtful = his.possible_duplicate or mine.possible_duplicate
            if his.status in ("held", "queued") and mine.attempts > his.attempts:
                # He has tried nothing since our attempt was announced: its end is what is known last.
                his = msgspec.structs.replace(his, attempts=mine.attempts, last=mine.last)
            result.append(msgspec.structs.replace(his, possible_duplicate=doubtful))
    return tuple(result)


def progress(
    recipients: tuple[RecipientState, ...], attempt: int, committed: int, due_at: datetime | None, hold: str = ""
) -> Progress:
    """Return the progress a moved copy carries."""
    return Progress(attempt=attempt, recipients=recipients, due_at=due_at, committed=committed, hold=hold)


_SINGLE: dict[str, str] = {
    "queued": "Queued",
    "held": "Held",
    "deferred": "Not delivered yet",
    "delivered": "Delivered",
    "bounced": "Refused for good",
    "expired": "Given up",
    "suppressed": "Not sent",
    "dropped": "Dropped",
    "captured": "Not sent",
}
_TELLING = {"deferred": 0, "bounced": 1, "suppressed": 2, "delivered": 3}
"""Whose diagnosis is quoted: the one that says most about what comes next."""


def explain(recipients: tuple[RecipientState, ...], next_at: datetime | None, *, goes_on: bool = False) -> str:
    """Return one sentence on what an attempt did and what comes next; `goes_on`: some destinations are not done."""
    counts: dict[str, int] = {}
    for recipient in recipients:
        counts[recipient.status] = counts.get(recipient.status, 0) + 1
    if len(recipients) == 1:
        said = _SINGLE[recipients[0].status]
    else:
        said = f"Of {len(recipients)} recipients {', '.join(f'{n} {status}' for status, n in counts.items())}"
    telling = sorted((r for r in recipients if r.last is not None), key=lambda r: _TELLING.get(r.status, 9))
    if telling and (last := telling[0].last) is not None:
        spoken = f"{last.code} {last.enhanced}" if last.code else last.enhanced
        said += f"; {last.host or 'Postlane'} said: {spoken} {last.text}".rstrip()
    if any(r.possible_duplicate for r in recipients):
        said += "; a second copy may have been delivered"
    if goes_on:
        said = f"{said.rstrip('.')}; the attempt goes on at the destinations that have not answered yet"
    if next_at is not None:
        said += f"; the next attempt is at {next_at:%Y-%m-%d %H:%M:%S} UTC"
    return said.rstrip(".") + "."


def status_of(recipients: tuple[RecipientState, ...]) -> RecipientStatus:
    """Return the message's status."""
    return overall(recipients)
