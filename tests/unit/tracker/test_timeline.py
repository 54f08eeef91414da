"""Timelines and counts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.tracker.core.fact import Source
from services.tracker.core.rollup import Tally, bucket_start, buckets
from services.tracker.core.rows import EventRow
from services.tracker.core.timeline import timeline
from shared.contract.envelope import Diagnosis, RecipientState
from shared.contract.events import (
    Event,
    ExchangerTried,
    MessageAccepted,
    MessageAttempted,
    MessageDropped,
    MessageHeld,
    MessageReleased,
)

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
BASE: dict[str, Any] = {"id": "x", "at": NOON, "queue_id": "Q", "instance": "i", "configuration": "c"}
STATUS: dict[str, Any] = {**BASE, "status": "held", "attempt": 0, "recipients": ()}


def row(source: Source, ordinal: int, event: Event | bytes, kind: str = "x.v1") -> EventRow:
    body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return EventRow(queue_id="Q", source=source, ordinal=ordinal, at=NOON, type=kind, body=body)


def test_facts_stand_in_order_with_their_sentences() -> None:
    """Acceptance first, then the records as they were committed, each in words."""
    accepted = MessageAccepted(
        **BASE, lane="transactional", sender="", recipients=("a@x.example",), size=5, sha256="",
        client_address="192.0.2.7", tls="TLSv1.3",
    )  # fmt: skip
    last = Diagnosis(code=451, enhanced="4.2.0", text="busy", host="mx.example")
    recipient = RecipientState(number=1, address="a@x.example", status="deferred", last=last)
    tried = ExchangerTried(host="mx.example", address="192.0.2.9", recipients=(1,), outcome="deferred", tls="TLSv1.2")
    attempted = MessageAttempted(
        **{**STATUS, "attempt": 1, "status": "deferred", "recipients": (recipient,)}, exchangers=(tried,)
    )
    entries = timeline(
        [
            row("STATUS", 9, MessageDropped(**STATUS, by="ops", reason="a test")),
            row("STATUS", 3, MessageHeld(**STATUS, reason="no SPF", until=NOON)),
            row("STATUS", 4, MessageReleased(**STATUS, explanation="The record is back")),
            row("STATUS", 5, attempted),
            row("STATUS", 7, attempted),  # published again after a lost PubAck
            row("STATUS", 6, b'{"type":"message.sung.v2"}', "message.sung.v2"),
            row("ACCEPTED", 100, accepted),
        ]
    )
    assert [(e.what, e.sentence) for e in entries] == [
        ("accepted", "Accepted from 192.0.2.7 over TLSv1.3: 5 octets of <> for 1 recipient"),
        ("held", "Held until 2026-05-04 12:00:00Z at the latest: no SPF"),
        ("released", "The record is back"),
        (
            "attempted",
            (
                "Attempt 1: a@x.example deferred: 451 4.2.0 busy by mx.example"
                " (tried mx.example [192.0.2.9] over TLSv1.2: deferred)"
            ),
        ),
        ("message.sung.v2", "An event of a type this version cannot read: message.sung.v2"),
        ("dropped", "Dropped by ops: a test"),
    ]


def test_counts_fill_every_bucket() -> None:
    """Empty buckets are told too; counts of one measure add up; what lies outside is left out."""
    noon = int(NOON.timestamp())
    tallies = [Tally("submitted", noon, 2), Tally("submitted", noon, 1), Tally("bounced", 0, 9)]
    found = buckets(NOON + timedelta(seconds=30), NOON + timedelta(seconds=121), 60, tallies)
    assert [(b.at, b.submitted, b.bounced) for b in found] == [
        (NOON, 3, 0),
        (NOON + timedelta(minutes=1), 0, 0),
        (NOON + timedelta(minutes=2), 0, 0),
    ]
    assert buckets(NOON, NOON, 60, []) == ()


@given(st.datetimes(timezones=st.just(UTC)), st.integers(1, 100_000))
def test_a_moment_lies_in_its_bucket(at: datetime, seconds: int) -> None:
    """A bucket begins at or before its moments and ends after them."""
    start = bucket_start(at, seconds)
    assert start <= at.timestamp() < start + seconds
    assert start % seconds == 0


def test_a_reconstructed_acceptance_gives_way_to_the_published_one() -> None:
    """Alone it is told and marked; a report of our own is told as what it is."""
    known: dict[str, Any] = {**BASE, "lane": "transactional", "sender": "", "recipients": ("a@x.example",), "size": 5,
                             "sha256": ""}  # fmt: skip
    report, made = MessageAccepted(**known), MessageAccepted(**known, user="u")
    published = MessageAccepted(**known, user="u", client_address="192.0.2.7")

    def told(*rows: EventRow) -> list[str]:
        return [entry.sentence for entry in timeline(rows)]

    assert told(row("ACCEPTED", 0, report)) == ["Made by Postlane: a report of 5 octets to a@x.example"]
    assert told(row("ACCEPTED", 0, made)) == [
        "Accepted: 5 octets of <> for 1 recipient (reconstructed from the stored message: its client is not known)"
    ]
    assert told(row("ACCEPTED", 9, published), row("ACCEPTED", 0, made)) == [
        "Accepted from 192.0.2.7: 5 octets of <> for 1 recipient"
    ]


def test_remarks_of_the_content_policy_are_told_with_the_acceptance() -> None:
    """All of them, in the order they were found."""
    known: dict[str, Any] = {**BASE, "lane": "marketing", "sender": "", "recipients": ("a@x.example",), "size": 5,
                             "sha256": ""}  # fmt: skip
    [entry] = timeline([row("ACCEPTED", 1, MessageAccepted(**known, findings=("one", "two")))])
    assert entry.sentence == "Accepted: 5 octets of <> for 1 recipient; remarks: one; two"
