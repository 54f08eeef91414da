"""From facts to rows."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.tracker.core.fact import Fact, Source, facts, read
from services.tracker.core.projection import UNREADABLE, accepted_time, project
from services.tracker.core.rows import recipient_state
from shared.contract import page, subjects
from shared.contract.envelope import Diagnosis, RecipientState
from shared.contract.events import Event, MessageAccepted, MessageAttempted, MessageDropped, SubmissionRefused

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
BASES: dict[Source, int] = {"ACCEPTED": 0, "STATUS": 1000, "REFUSALS": 0}
Q = "01KQSDR2G08ZQ4T7B9XJ2M6C3WFVNR"


def fact(source: Source, sequence: int, event: Event | bytes) -> Fact:
    """Make a fact as a stream holds it."""
    payload = event if isinstance(event, bytes) else msgspec.json.encode(event)
    subject = subjects.refused("", "") if source == "REFUSALS" else subjects.status("i", "c", Q)
    return Fact(source=source, sequence=sequence, subject=subject, stored_at=NOON, payload=payload)


def accepted(*recipients: str) -> MessageAccepted:
    return MessageAccepted(
        id="a", at=NOON, queue_id=Q, instance="i", configuration="c", lane="transactional",
        sender="App@DEMO.example", recipients=recipients, size=1, sha256="",
    )  # fmt: skip


def attempted(attempt: int, *statuses: str) -> MessageAttempted:
    at = NOON + timedelta(minutes=attempt)
    states = tuple(
        RecipientState(
            number=n, address=f"r{n}@x.example", status=s, attempts=attempt, at=at,  # type: ignore[arg-type]
            last=Diagnosis(code=250, enhanced="2.0.0", text="ok"),
        )
        for n, s in enumerate(statuses, 1)
    )  # fmt: skip
    return MessageAttempted(
        id=f"s{attempt}", at=at, queue_id=Q, instance="i", configuration="c", status="deferred", attempt=attempt,
        recipients=states,
    )  # fmt: skip


def test_acceptance_gives_a_message_with_its_recipients() -> None:
    """Recipients are numbered in the order of RCPT and queued; addresses get a form for searches."""
    rows = project([fact("ACCEPTED", 7, accepted("A@x.example", "b@x.example"))], BASES)
    (message,) = rows.accepted
    assert (message.sender, message.sender_key, message.sender_domain) == (
        "App@DEMO.example", "app@demo.example", "demo.example",
    )  # fmt: skip
    assert [(r.number, r.address, r.address_key, r.status) for r in rows.accepted_recipients] == [
        (1, "A@x.example", "a@x.example", "queued"),
        (2, "b@x.example", "b@x.example", "queued"),
    ]
    assert [(e.type, e.ordinal) for e in rows.events] == [("message.accepted.v1", 7)]


def test_the_record_with_the_highest_sequence_counts() -> None:
    """Whatever the order in a batch, and a record told twice is kept once."""
    facts = [fact("STATUS", 3, attempted(2, "delivered")), fact("STATUS", 2, attempted(1, "deferred"))]
    rows = project([*facts, facts[0]], BASES)
    (status,) = rows.statuses
    assert (status.attempt, status.status_ordinal) == (2, 1003)
    assert [r.status for r in rows.status_recipients] == ["delivered"]
    assert [e.ordinal for e in rows.events] == [1002, 1003]


def test_the_first_deferral_is_remembered_though_a_later_record_counts() -> None:
    """A recipient that was deferred and then delivered counts as both."""
    rows = project(
        [fact("STATUS", n, attempted(n, s)) for n, s in ((1, "deferred"), (2, "deferred"), (3, "delivered"))], BASES
    )
    (deferral,) = rows.deferrals
    assert (deferral.number, deferral.at) == (1, NOON + timedelta(minutes=1))


def test_a_drop_tells_who_and_why() -> None:
    """Reason and actor of the newest record are kept for the explanation."""
    event = MessageDropped(
        id="d", at=NOON, queue_id=Q, instance="i", configuration="c", status="dropped", attempt=0, recipients=(),
        by="ops", reason="a test",
    )  # fmt: skip
    (status,) = project([fact("STATUS", 1, event)], BASES).statuses
    assert (status.by, status.reason, status.status_type) == ("ops", "a test", "message.dropped.v1")


def test_a_refusal_has_no_timeline() -> None:
    """It is found by its reference only."""
    event = SubmissionRefused(
        id="r", at=NOON, reference="R-0123456789", code=535, enhanced="5.7.8", reply="no", reason="x", phase="auth"
    )
    rows = project([fact("REFUSALS", 4, event)], BASES)
    assert rows.events == []
    assert [(r.reference, r.ordinal) for r in rows.refusals] == [("R-0123456789", 4)]


def test_a_recipient_row_goes_back_into_the_words_of_the_contract() -> None:
    """Nothing of a state is lost on its way through the database's columns."""
    event = attempted(1, "bounced", "delivered")
    rows = project([fact("STATUS", 1, event)], BASES)
    assert tuple(recipient_state(row) for row in rows.status_recipients) == event.recipients


def test_the_time_of_acceptance_is_in_the_queue_id() -> None:
    """A status that comes first still has its place in time; a foreign name falls back."""
    assert accepted_time(Q, datetime(1999, 1, 1, tzinfo=UTC)) == NOON
    assert accepted_time("x", NOON) == NOON
    assert accepted_time("Z" * 30, NOON) == NOON


@given(
    st.binary(max_size=60) | st.from_regex(rb'\{"type": "[a-z.]{1,9}", "at": ".{0,9}"\}', fullmatch=True),
    st.sampled_from(["ACCEPTED", "STATUS", "REFUSALS"]),
)
def test_nothing_unreadable_stops_the_projection(payload: bytes, source: Source) -> None:
    """Any payload is kept as an event whose body is JSON, beside the readable ones."""
    strange = fact(source, 5, payload)
    rows = project([strange, fact("ACCEPTED", 6, accepted("a@x.example"))], BASES)
    assert read(strange) is None
    assert len(rows.accepted) == 1
    kept = next(e for e in rows.events if e.type != "message.accepted.v1")
    msgspec.json.decode(kept.body)
    assert kept.at.tzinfo is not None
    assert "\x00" not in kept.type


def test_a_page_is_as_many_facts_as_it_has_lines() -> None:
    """Each is an acceptance of its own; a line nobody can read takes no other one with it."""
    second = Q[:-1] + "Z"
    lines = [msgspec.json.encode(accepted("a@x.example")), msgspec.json.encode({"type": "later", "queue_id": second})]
    found = facts("ACCEPTED", 7, "postlane.acceptances", NOON, page.written([*lines, b"\xff"]))
    assert [each.payload for each in found] == [*lines, b"\xff"]
    assert [each.subject.rpartition(".")[2] for each in found] == [Q, second, "unreadable-2"]
    rows = project(found, BASES)
    assert [row.queue_id for row in rows.accepted] == [Q]
    assert {(row.queue_id, row.type) for row in rows.events} == {
        (Q, "message.accepted.v1"), (second, "later"), ("unreadable-2", UNREADABLE),
    }  # fmt: skip


def test_a_record_of_another_stream_is_one_fact() -> None:
    """Whatever is in it."""
    assert [each.payload for each in facts("STATUS", 1, "s", NOON, b"{}\n{}")] == [b"{}\n{}"]


def test_what_is_not_json_is_called_unreadable() -> None:
    """Its text is kept as a JSON string."""
    (row,) = project([fact("STATUS", 1, b"\xff\x00no")], BASES).events
    assert row.type == UNREADABLE
    assert msgspec.json.decode(row.body) == "\ufffd\x00no"
