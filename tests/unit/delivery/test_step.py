"""What to do next with a message."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
import pytest

from services.delivery.core import reporting, retry, step
from services.delivery.core.gate import BY_OPERATOR, Hold, gate
from services.delivery.core.outcome import Outcome, from_reply, lost, suppressed
from services.delivery.core.retry import Schedule, expiry, next_attempt
from shared.contract.envelope import Carriage, Envelope, Progress, Recipient, RecipientState, RecipientStatus
from shared.contract.events import AnyStatus, MessageAttempted, MessageHeld, MessageReleased
from shared.contract.records import Authorization, Configuration, Questionnaire, Suspension
from shared.contract.standing import Standing, StandingState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SOON = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(hours=1)
FAR = NOW + timedelta(days=5)
HOLD = Hold("suspended-for-dns", "Sending is suspended.")
ENVELOPE = Envelope(
    queue_id="0" * 30, instance="i", configuration="c", domain="d.example", lane="transactional", sender="a@d.example",
    recipients=(Recipient(number=1, address="x@y.example"), Recipient(number=2, address="z@y.example")),
    received_at=NOW, expires_at=None, size=1, sha256=sha256(b"x").hexdigest(),
)  # fmt: skip


def state(number: int, status: RecipientStatus) -> RecipientState:
    """Return a recipient's state."""
    return RecipientState(number=number, address="x@y.example", status=status, at=NOW)


def attempted(*states: RecipientState, attempt: int = 1, next_at: datetime | None = LATER) -> MessageAttempted:
    """Return a record of an attempt."""
    return MessageAttempted(
        id="e", at=NOW, queue_id=ENVELOPE.queue_id, instance="i", configuration="c", status=step.status_of(states),
        attempt=attempt, recipients=states, next_attempt_at=next_at,
    )  # fmt: skip


def held(reason: str) -> MessageHeld:
    """Return a record of a hold."""
    return MessageHeld(
        id="e", at=NOW, queue_id="q", instance="i", configuration="c", status="held", attempt=0,
        recipients=(state(1, "held"),), reason=reason,
    )  # fmt: skip


def decide(
    carriage: Carriage, last: AnyStatus | None, sequence: int, *, hold: Hold | None = None, now: datetime = NOW,
    expires_at: datetime = FAR, explicit: bool = False,
) -> step.Step:  # fmt: skip
    """Return the next step."""
    return step.next_step(step.known(carriage, last, sequence), now, expires_at, hold, explicit_expiry=explicit)


FRESH = Carriage(envelope=ENVELOPE)


def test_fresh_is_attempted() -> None:
    """A message nothing has happened to is tried for all its recipients."""
    known = step.known(FRESH, None, 0)
    assert [r.status for r in known.open] == ["queued", "queued"]
    assert decide(FRESH, None, 0) == step.Attempt()


def test_all_decided_is_finished() -> None:
    """When every recipient is decided the message goes, whatever the gate says."""
    last = attempted(state(1, "delivered"), state(2, "bounced"), next_at=None)
    assert decide(FRESH, last, 7, hold=HOLD) == step.Finish()


def test_committed_but_not_moved_waits() -> None:
    """A newer record than the copy's own: the interrupted move is made, nothing is tried before its time."""
    last = attempted(state(1, "delivered"), state(2, "deferred"))
    assert step.known(FRESH, last, 7).outdated
    assert decide(FRESH, last, 7) == step.Wait(LATER)
    assert decide(FRESH, last, 7, now=LATER) == step.Attempt()


def test_copy_with_its_own_record_is_attempted() -> None:
    """A copy that rests on the last record is tried when it is in hand: its schedule has fired."""
    progress = Progress(attempt=1, recipients=(state(1, "deferred"),), committed=7, due_at=LATER)
    carriage = Carriage(envelope=ENVELOPE, progress=progress)
    last = attempted(state(1, "deferred"))
    assert not step.known(carriage, last, 7).outdated
    assert decide(carriage, last, 7) == step.Attempt()


def test_forgotten_status_leaves_the_carriage() -> None:
    """When STATUS has forgotten the message, its carriage speaks; the next record follows nothing."""
    progress = Progress(attempt=4, recipients=(state(1, "deferred"), state(2, "delivered")), committed=7)
    known = step.known(Carriage(envelope=ENVELOPE, progress=progress), None, 0)
    assert (known.attempt, known.sequence, known.outdated) == (4, 0, False)
    assert [r.number for r in known.open] == [1]


def test_holds() -> None:
    """A closed gate keeps the message; a hold that is in STATUS already is not committed again."""
    assert decide(FRESH, None, 0, hold=HOLD) == step.Keep(HOLD, FAR, committed=False)
    assert decide(FRESH, held(HOLD.reason), 3, hold=HOLD) == step.Keep(HOLD, FAR, committed=True)
    assert decide(FRESH, held(HOLD.reason), 3) == step.Attempt()


def test_operator_hold_stays_with_the_gate_open() -> None:
    """A message held by an operator is not tried until it is released."""
    kept = decide(FRESH, held(BY_OPERATOR), 3)
    assert isinstance(kept, step.Keep)
    assert kept.committed
    released = MessageReleased(
        id="e", at=NOW, queue_id="q", instance="i", configuration="c", status="queued", attempt=0,
        recipients=(state(1, "queued"),),
    )  # fmt: skip
    assert decide(FRESH, released, 4) == step.Attempt()


def test_expiry() -> None:
    """At its end a message expires, also while held; one never tried is tried once unless its sender set the end."""
    last = attempted(state(1, "deferred"), next_at=NOW)
    progress = Progress(attempt=1, recipients=(state(1, "deferred"),), committed=7)
    tried = Carriage(envelope=ENVELOPE, progress=progress)
    assert decide(tried, last, 7, now=FAR) == step.Expire()
    assert decide(FRESH, None, 0, now=FAR, hold=HOLD) == step.Expire()
    assert decide(FRESH, None, 0, now=FAR) == step.Attempt()
    assert decide(FRESH, None, 0, now=FAR, explicit=True) == step.Expire()


def test_a_late_message_gets_another_chance() -> None:
    """A clock that jumped, or a long outage, is not the message's fault: once more, then it expires as ever."""
    carriage = Carriage(
        envelope=ENVELOPE,
        progress=step.progress((state(1, "deferred"), state(2, "deferred")), attempt=3, committed=7, due_at=LATER),
    )
    over = FAR + timedelta(days=360)
    assert decide(carriage, None, 7, now=over) == step.Attempt()
    assert decide(carriage, None, 7, now=over, hold=HOLD) == step.Keep(HOLD, over + step.LATE, committed=False)
    assert decide(carriage, None, 7, now=over, explicit=True) == step.Expire()  # of no use any more, says its sender
    assert decide(carriage, None, 7, now=over, explicit=True, hold=HOLD) == step.Expire()
    soon = LATER + step.LATE / 2
    assert decide(carriage, None, 7, now=soon, expires_at=soon) == step.Expire()
    assert decide(carriage, None, 7, now=soon, expires_at=soon, hold=HOLD) == step.Expire()


def test_no_wait_leads_that_far() -> None:
    """A time that no schedule and no hint can have given was chosen by a clock that was ahead."""
    schedule = retry.Schedule(waits_seconds=(300, 14_400), jitter=0.2)
    assert not retry.too_far(NOW + timedelta(hours=5), schedule, NOW)
    assert not retry.too_far(NOW - timedelta(days=400), schedule, NOW)
    assert retry.too_far(NOW + timedelta(hours=7), schedule, NOW)


def test_apply_marks_duplicates() -> None:
    """An ambiguous end and an unsure repetition mark what may have arrived twice."""
    known = step.known(FRESH, None, 0)
    outcomes: dict[int, Outcome] = {
        1: lost("cut", "final", ambiguous=True),
        2: from_reply(250, "ok", "final"),
    }
    first, second = step.apply(known, outcomes, NOW)
    assert (first.status, first.possible_duplicate, first.attempts) == ("deferred", True, 1)
    assert (second.status, second.possible_duplicate) == ("delivered", False)
    _, again = step.apply(known, outcomes, NOW, repeated=True)
    assert again.possible_duplicate


def test_apply_leaves_the_decided_alone() -> None:
    """A decided recipient is never changed, and a suppressed one was not attempted."""
    known = step.known(FRESH, attempted(state(1, "delivered"), state(2, "deferred")), 7)
    first, second = step.apply(known, {1: from_reply(550, "no", "rcpt"), 2: suppressed("listed")}, LATER)
    assert first == state(1, "delivered")
    assert (second.status, second.attempts) == ("suppressed", 0)


@pytest.mark.parametrize(
    ("ours", "theirs", "result", "doubtful"),
    [
        ("delivered", "delivered", "delivered", True),
        ("delivered", "deferred", "delivered", False),
        ("delivered", "bounced", "delivered", False),
        ("deferred", "delivered", "delivered", False),
        ("bounced", "deferred", "bounced", False),
        ("deferred", "bounced", "bounced", False),
    ],
)
def test_merge(ours: RecipientStatus, theirs: RecipientStatus, result: RecipientStatus, doubtful: bool) -> None:
    """Of two concurrent results a delivery always survives, and two deliveries are a duplicate."""
    (merged,) = step.merged((state(1, ours),), (state(1, theirs),), (state(1, "queued"),), LATER)
    assert (merged.status, merged.possible_duplicate) == (result, doubtful)


def test_reportable() -> None:
    """Only what became final with this very record is reported."""
    before = (state(1, "deferred"), state(2, "bounced"), state(3, "deferred"))
    after = attempted(state(1, "bounced"), state(2, "bounced"), state(3, "delivered"), next_at=None)
    assert [r.number for r in reporting.failed(before, after)] == [1]
    old = msgspec.structs.replace(after, at=LATER)
    assert reporting.failed(before, old) == ()
    assert [r.number for r in reporting.relayed(before, after)] == [3]
    assert reporting.relayed(before, old) == ()


def test_who_was_open_in_a_broken_attempt_is_not_given_up_untried() -> None:
    """What one destination took is committed and the worker dies: after a long outage the others get their attempt."""
    waiting = attempted(state(1, "delivered"), state(2, "queued"), next_at=None)
    assert decide(FRESH, waiting, 7) == step.Attempt()
    assert decide(FRESH, waiting, 7, now=FAR) == step.Attempt()
    assert decide(FRESH, waiting, 7, now=FAR, explicit=True) == step.Expire()
    tried = msgspec.structs.replace(state(2, "queued"), attempts=1)  # released from a hold, for example
    assert decide(FRESH, attempted(state(1, "delivered"), tried, next_at=None), 7, now=FAR) == step.Expire()


def test_retry_schedule() -> None:
    """Waits grow along the schedule, repeat the last, move with chance, and never undercut a server's wish."""
    schedule = Schedule(waits_seconds=(60, 600), jitter=0.5)
    assert next_attempt(1, schedule, NOW, 0.5) == NOW + timedelta(seconds=60)
    assert next_attempt(9, schedule, NOW, 0.5) == NOW + timedelta(seconds=600)
    assert next_attempt(1, schedule, NOW, 0.0) == NOW + timedelta(seconds=30)
    assert next_attempt(2, schedule, NOW, 0.999) > NOW + timedelta(seconds=899)
    assert next_attempt(1, schedule, NOW, 0.5, 300) == NOW + timedelta(seconds=300)


def test_after_attempt() -> None:
    """Only what is open is tried again: when the most patient server wishes it, but within the lifetime."""
    schedule = Schedule(waits_seconds=(60,), jitter=0.5)
    greylisted, lasting = lost("no answer", "connect"), lost("busy", "data")
    greylisted = msgspec.structs.replace(greylisted, greylisted=True)
    lasting = msgspec.structs.replace(lasting, wait_seconds=900)
    open_one = (state(1, "delivered"), state(2, "deferred"))

    def after(*outcomes: Outcome, expires_at: datetime = FAR) -> timedelta | None:
        at = retry.after_attempt(1, open_one, outcomes, schedule, NOW, 0.0, expires_at)
        return at - NOW if at is not None else None

    assert retry.after_attempt(1, open_one[:1], (), schedule, NOW, 0.0, FAR) is None
    assert after() == timedelta(seconds=30)
    assert after(greylisted) == timedelta(seconds=60)
    assert after(greylisted, lasting) == timedelta(seconds=900)
    assert after(lasting, expires_at=NOW + timedelta(seconds=45)) == timedelta(seconds=45)
    assert after(expires_at=NOW - timedelta(seconds=1)) == timedelta(seconds=30)  # it came late: once more


CONFIGURATION = Configuration(
    id="c", instance="i", name="n", domain="d.example", selector="s", dkim_value="", spf_value="", created_at=NOW,
    updated_at=NOW,
)  # fmt: skip
QUESTIONS = Questionnaire(
    nature="transactional", website="", list_source="", bounces_and_complaints="", unsubscribe="", quota_rationale="",
    list_cleaning="", contacts=(), reply_to="", only_to_requesters=True, unsubscribe_link=True,
)  # fmt: skip
APPROVED = Authorization(configuration="c", instance="i", status="approved", questionnaire=QUESTIONS, submitted_at=NOW)


@pytest.mark.parametrize(
    ("own", "lifetime", "end"), [(None, None, LATER), (FAR, None, LATER), (LATER, 10_000_000, LATER), (FAR, 60, SOON)]
)
def test_the_end_of_a_lifetime(own: datetime | None, lifetime: int | None, end: datetime) -> None:
    """A sender may shorten the lifetime, not lengthen it; a configuration has its own or that of all."""
    configuration = msgspec.structs.replace(CONFIGURATION, lifetime_seconds=lifetime)
    envelope = msgspec.structs.replace(ENVELOPE, expires_at=own)
    assert expiry(envelope, configuration, 3600) == end
    assert expiry(ENVELOPE, None, 3600) == LATER


def standing(state: StandingState) -> Standing:
    """Return a standing."""
    return Standing(configuration="c", instance="i", domain="d.example", state=state, reason="r", since=NOW)


def test_greylisting_is_not_met_too_early() -> None:
    """Chance never takes from the wait of a greylisted message; its hint is a floor as ever."""
    schedule = Schedule(waits_seconds=(300, 600), jitter=0.2)
    waits = [next_attempt(1, schedule, NOW, chance, greylisted=True) - NOW for chance in (0.0, 0.5, 0.999)]
    assert waits[0] == timedelta(seconds=300)
    assert waits == sorted(waits)
    assert waits[-1] <= timedelta(seconds=360)
    assert next_attempt(1, schedule, NOW, 0.0) - NOW == timedelta(seconds=240)
    assert next_attempt(1, schedule, NOW, 0.0, 900, greylisted=True) - NOW == timedelta(seconds=900)


def test_gate() -> None:
    """Mail goes only with a configuration, an approval, no operator's suspension and a good standing."""
    suspension = Suspension(configuration="c", reason="abuse", by="op", at=NOW)
    assert gate(CONFIGURATION, APPROVED, None, standing("verified")) is None
    assert gate(CONFIGURATION, APPROVED, None, standing("degraded")) is None
    reasons = [
        gate(None, APPROVED, None, standing("verified")),
        gate(CONFIGURATION, APPROVED, suspension, standing("suspended")),
        gate(CONFIGURATION, None, None, standing("verified")),
        gate(CONFIGURATION, msgspec.structs.replace(APPROVED, status="rejected"), None, standing("verified")),
        gate(CONFIGURATION, APPROVED, None, None),
        gate(CONFIGURATION, APPROVED, None, standing("pending")),
        gate(CONFIGURATION, APPROVED, None, standing("suspended")),
    ]
    assert [hold.reason if hold else "" for hold in reasons] == [
        "configuration-unknown", "suspended-by-operator", "not-authorised", "not-authorised", "not-verified",
        "not-verified", "suspended-for-dns",
    ]  # fmt: skip


def test_explain() -> None:
    """One sentence says what happened, who said so, and when the next attempt is."""
    known = step.known(FRESH, None, 0)
    outcomes: dict[int, Outcome] = {
        1: from_reply(250, "2.0.0 stored", "final", host="mx.y.example"),
        2: from_reply(450, "4.2.1 greylisted", "rcpt", host="mx.y.example"),
    }
    both = step.apply(known, outcomes, NOW)
    assert step.explain(both, LATER) == (
        "Of 2 recipients 1 delivered, 1 deferred; mx.y.example said: 450 4.2.1 greylisted; "
        "the next attempt is at 2026-11-23 13:00:00 UTC."
    )
    assert step.explain(both[:1], None) == "Delivered; mx.y.example said: 250 2.0.0 stored."
    doubtful = step.apply(known, {1: outcomes[1]}, NOW, repeated=True)[:1]
    assert "second copy" in step.explain(doubtful, None)
    assert step.explain(both[:1], None, goes_on=True) == (
        "Delivered; mx.y.example said: 250 2.0.0 stored; "
        "the attempt goes on at the destinations that have not answered yet."
    )
