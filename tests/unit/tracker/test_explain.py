"""One sentence on why a message is where it is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from services.tracker.core.explain import Situation, refusal, why
from shared.contract.envelope import Diagnosis, RecipientState
from shared.contract.events import SubmissionRefused
from shared.contract.standing import Standing

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
GREYLISTED = Diagnosis(code=451, enhanced="4.7.1", text="greylisted.\r\n", host="mx.example", address="192.0.2.9")
SUSPENDED = Standing(
    configuration="c", instance="i", domain="demo.example", state="suspended", reason="no SPF record", since=NOON
)


def state(number: int, status: str, last: Diagnosis | None = None) -> RecipientState:
    return RecipientState(number=number, address=f"r{number}@x.example", status=status, at=NOON, last=last)  # type: ignore[arg-type]


def situation(status: str, *recipients: RecipientState, **more: Any) -> Situation:
    return Situation(status=status, accepted_at=NOON, updated_at=NOON, recipients=recipients, **more)


NO_ROUTE = Diagnosis(code=0, enhanced="4.4.1", text="no route", host="mx.a")
UNKNOWN = Diagnosis(code=550, enhanced="5.1.1", text="unknown", address="192.0.2.9")
MIXED = (state(1, "delivered"), state(2, "deferred"), state(3, "delivered"))
CASES: list[tuple[Situation, str]] = [
    (situation("queued"), "Queued: accepted at 2026-05-04 12:00:00Z, no attempt has been committed yet"),
    (situation("queued", attempt=2, explanation="Released by ops."), "Queued: Released by ops"),
    (
        situation("deferred", state(1, "deferred", GREYLISTED), attempt=2, next_attempt_at=NOON + timedelta(seconds=9)),
        "Deferred: 451 4.7.1 greylisted by mx.example [192.0.2.9] (attempt 2), next attempt at 2026-05-04 12:00:09Z",
    ),
    (
        situation("deferred", state(1, "deferred", GREYLISTED), attempt=1, next_attempt_at=NOON - timedelta(hours=1)),
        (
            "Deferred: 451 4.7.1 greylisted by mx.example [192.0.2.9] (attempt 1),"
            " the next attempt was due at 2026-05-04 11:00:00Z and is overdue"
        ),
    ),
    (
        situation("deferred", state(1, "deferred", NO_ROUTE), attempt=1),
        "Deferred: 4.4.1 no route at mx.a (attempt 1), the next attempt is not scheduled yet",
    ),
    (
        situation("deferred", *MIXED, attempt=1, explanation="busy"),
        "Deferred: busy (attempt 1), the next attempt is not scheduled yet (2 delivered, 1 deferred)",
    ),
    (
        situation("held", state(1, "held"), reason="no DKIM record", expires_at=NOON + timedelta(days=5)),
        "Held: no DKIM record; it goes on its way when sending is allowed again, or expires at 2026-05-09 12:00:00Z",
    ),
    (situation("delivered", state(1, "delivered")), "Delivered at 2026-05-04 12:00:00Z: no reason was recorded"),
    (
        situation("bounced", state(1, "bounced", UNKNOWN)),
        "Bounced: 550 5.1.1 unknown by 192.0.2.9; it will not be tried again",
    ),
    (
        situation("expired", state(1, "expired", GREYLISTED), attempt=1),
        "Expired after 1 attempt: 451 4.7.1 greylisted by mx.example [192.0.2.9]; it will not be tried again",
    ),
    (situation("suppressed", explanation="bounced before"), "Suppressed: bounced before; nothing was sent"),
    (situation("dropped", by="ops", reason="wrong list"), "Dropped by ops at 2026-05-04 12:00:00Z: wrong list"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "sentence"), CASES, ids=[f"{c[0].status}-{i}" for i, c in enumerate(CASES)])
def test_each_status_has_its_sentence(given: Situation, sentence: str) -> None:
    """The sentence names the last word, who said it, and what comes next."""
    assert why(given, None, NOON) == sentence


def test_a_suspension_is_named_where_no_event_names_it() -> None:
    """A queued or held message of a suspended configuration waits for its records."""
    assert "demo.example is suspended: no SPF record" in why(situation("queued"), SUSPENDED, NOON)
    assert "demo.example is suspended: no SPF record" in why(situation("held"), SUSPENDED, NOON)
    verified = msgspec.structs.replace(SUSPENDED, state="verified")
    assert "suspended" not in why(situation("queued"), verified, NOON)


def test_a_possible_duplicate_is_told() -> None:
    """Whoever asks learns that a copy may have arrived twice."""
    twice = msgspec.structs.replace(state(1, "delivered"), possible_duplicate=True)
    assert "may have arrived twice" in why(situation("delivered", twice), None, NOON)


def test_a_missing_message_is_told_with_what_was_known_last() -> None:
    """The alarm comes first; a message that is finished is not missing, whatever the last audit believed."""
    told = why(situation("queued", missing_since=NOON), None, NOON)
    assert told.startswith(
        "This message is missing from the queue: an alarm was raised at 2026-05-04 12:00:00Z."
        " What was known of it last: Queued: accepted at "
    )
    assert "missing" not in why(situation("dropped", missing_since=NOON), None, NOON)


def test_a_sentence_is_one_line_whatever_a_server_said() -> None:
    """Line ends in a remote server's text do not get through."""
    wild = Diagnosis(code=450, enhanced="4.2.0", text="a\r\nb\n\tc", host="mx.example")
    assert "\n" not in why(situation("deferred", state(1, "deferred", wild)), None, NOON)


@pytest.mark.parametrize(
    ("code", "enhanced", "cure"),
    [
        (535, "5.7.8", "check the username"),
        (550, "5.7.1", "check the sender's domain"),
        (452, "4.3.1", "try again later"),
        (559, "5.9.9", "correct the submission"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, enhanced: str, cure: str) -> None:
    """The true reason, who and whence, and a cure for the kind of fault."""
    event = SubmissionRefused(
        id="r", at=NOON, reference="R-0123456789", code=code, enhanced=enhanced, reply="No.", phase="rcpt",
        reason="covered by no rule.", username="u", client_address="192.0.2.7",
    )  # fmt: skip
    sentence = refusal(event)
    assert sentence.startswith(
        f"Refused with {code} {enhanced} at rcpt on 2026-05-04 12:00:00Z by u from 192.0.2.7: covered by no rule; "
    )
    assert cure in sentence
