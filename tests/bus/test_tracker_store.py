"""The tracker's database file: the same facts leave the same rows, however they come."""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tracker import tables
from services.tracker.core.fact import SOURCES, Fact, Source
from services.tracker.database import DatabaseAway
from services.tracker.reading import Known, Reading
from services.tracker.store import Position, Store
from shared.contract import subjects
from shared.contract.envelope import RecipientState
from shared.contract.errors import SettingsFault
from shared.contract.events import Event, MessageAccepted, MessageAttempted, SubmissionRefused
from shared.contract.requests import SearchMessages
from shared.mail.ids import new_queue_id

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
QUEUE_IDS = [new_queue_id(int(NOON.timestamp() * 1000), n.to_bytes(13, "big")) for n in range(4)]


def fact(source: Source, sequence: int, event: Event | bytes, at: datetime = NOON) -> Fact:
    payload = event if isinstance(event, bytes) else msgspec.json.encode(event)
    subject = subjects.status("i", "c", getattr(event, "queue_id", QUEUE_IDS[0]))
    return Fact(source=source, sequence=sequence, subject=subject, stored_at=at, payload=payload)


def accepted(n: int) -> MessageAccepted:
    return MessageAccepted(
        id=f"a{n}", at=NOON + timedelta(milliseconds=n), queue_id=QUEUE_IDS[n], instance="i", configuration="c",
        lane="transactional", sender="app@demo.example", recipients=("a@x.example", "b@x.example"), size=1, sha256="",
    )  # fmt: skip


def attempted(n: int, attempt: int, status: str) -> MessageAttempted:
    at = NOON + timedelta(minutes=attempt)
    states = tuple(
        RecipientState(number=i, address=f"{a}@x.example", status=status, attempts=attempt, at=at)  # type: ignore[arg-type]
        for i, a in enumerate("ab", 1)
    )
    return MessageAttempted(
        id=f"s{n}-{attempt}", at=at, queue_id=QUEUE_IDS[n], instance="i", configuration="c", attempt=attempt,
        status=status, recipients=states,  # type: ignore[arg-type]
    )  # fmt: skip


FACTS = [
    *(fact("ACCEPTED", n + 1, accepted(n)) for n in range(4)),
    *(fact("STATUS", n + 1, attempted(n, 1, "deferred")) for n in range(3)),
    *(fact("STATUS", n + 4, attempted(n, 2, status)) for n, status in enumerate(("deferred", "bounced", "delivered"))),
    fact("STATUS", 7, attempted(0, 3, "delivered")),
    fact("STATUS", 8, b"not of this world"),
    fact(
        "REFUSALS", 1,
        SubmissionRefused(
            id="r", at=NOON, reference="R-0123456789", code=550, enhanced="5.7.1", reply="n", reason="r", phase="mail"
        ),
    ),
]  # fmt: skip


def content(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table."""
    with store.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in tables.metadata.sorted_tables
        }


def filled(directory: Path, batches: Sequence[Sequence[Fact]]) -> dict[str, list[tuple[object, ...]]]:
    """Return the content of a new database after these batches."""
    store = Store(f"sqlite:///{directory / f'{random.getrandbits(64)}.sqlite'}")
    store.prepare()
    for source in SOURCES:
        store.position(source, "made today")
    for batch in batches:
        assert store.apply(batch) == []
    found = content(store)
    store.close()
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Give a test a prepared database."""
    made = Store(f"sqlite:///{tmp_path / 't.sqlite'}")
    made.prepare()
    for source in SOURCES:
        made.position(source, "made today")
    yield made
    made.close()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_order_repetition_and_batches_make_no_difference(data: st.DataObject) -> None:
    """Facts in any order, told more than once, in batches of any size, leave the same database."""
    repeated = data.draw(st.lists(st.sampled_from(FACTS), max_size=10))
    told = data.draw(st.permutations([*FACTS, *repeated]))
    size = data.draw(st.integers(1, len(told)))
    with TemporaryDirectory() as directory:
        plain = filled(Path(directory), [FACTS])
        shuffled = filled(Path(directory), [told[i : i + size] for i in range(0, len(told), size)])
    assert shuffled == plain


def test_a_new_life_of_a_stream_goes_on_where_the_old_one_ended(store: Store) -> None:
    """Records of a stream that was made anew, with sequences from 1, are newer than all of the old one."""
    store.apply([fact("STATUS", 70, attempted(0, 1, "deferred"))])
    assert store.position("STATUS", "made today") == Position(base=0, last_sequence=70)
    assert store.position("STATUS", "made tomorrow") == Position(base=70, last_sequence=0)
    store.apply([fact("STATUS", 1, attempted(0, 2, "delivered"))])
    known = Reading(store).message(QUEUE_IDS[0], None)
    assert known is not None
    assert (known.row.status, len(known.events)) == ("delivered", 2)


def read_during_a_write(reader: Store, writer: Store) -> tuple[Known, Known]:
    """Return a message as it is read while its next record comes between two queries, and as it is read afterwards."""
    writer.apply([fact("STATUS", 70, attempted(0, 1, "deferred"))])
    late = [fact("STATUS", 71, attempted(0, 2, "delivered"))]

    def come_between(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if late and "FROM messages" in statement:
            writer.apply([late.pop()])

    sa.event.listen(reader.engine, "after_cursor_execute", come_between)
    during, after = (Reading(reader).message(QUEUE_IDS[0], None) for _ in range(2))
    assert not late
    assert during is not None
    assert after is not None
    return during, after


def is_of_one_moment(reader: Store, writer: Store) -> None:
    """Judge that what comes while a message is read is in none of its parts, and a moment later in all of them."""
    during, after = read_during_a_write(reader, writer)
    assert [(known.row.status, known.recipients[0].status, len(known.events)) for known in (during, after)] == [
        ("deferred", "deferred", 1),
        ("delivered", "delivered", 2),
    ]


def test_a_message_is_told_as_of_one_moment(store: Store, tmp_path: Path) -> None:
    """A page never shows the last record without the state it led to, or the other way round."""
    writer = Store(f"sqlite:///{tmp_path / 't.sqlite'}")
    is_of_one_moment(store, writer)
    writer.close()


def test_finished_messages_are_forgotten_and_open_ones_are_not(store: Store) -> None:
    """Old and finished: gone with recipients, events and refusals. Old and open: kept."""
    store.apply(FACTS)
    later = NOON + timedelta(days=1)
    assert store.forget(NOON) == 0
    assert store.forget(later, limit=2) == 2
    assert store.forget(later) == 1
    found, total = Reading(store).search(SearchMessages())
    assert [message.queue_id for message in found] == [QUEUE_IDS[3]]
    assert total == 1
    rows = content(store)
    assert {row[0] for row in rows["events"]} == {QUEUE_IDS[3]}
    assert {row[0] for row in rows["recipients"]} == {QUEUE_IDS[3]}
    assert rows["refusals"] == []


def test_a_database_that_fails_keeps_nothing_of_a_batch(store: Store, tmp_path: Path) -> None:
    """While another program holds the file, a batch is refused as a whole; afterwards it is taken."""
    sa.event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))
    store.engine.dispose()
    holder = sqlite3.connect(tmp_path / "t.sqlite")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="locked"):
        store.apply(FACTS)
    holder.rollback()
    holder.close()
    assert Reading(store).search(SearchMessages())[1] == 0
    store.apply(FACTS)
    assert Reading(store).search(SearchMessages())[1] == 4


def test_a_schema_of_another_version_is_refused(tmp_path: Path) -> None:
    """The fault says what to do; the file is left alone."""
    store = Store(f"sqlite:///{tmp_path / 't.sqlite'}")
    store.prepare()
    with store.engine.begin() as connection:
        connection.execute(sa.update(tables.schema).values(version=999))
    with pytest.raises(SettingsFault, match=r"999.*name a new database"):
        store.prepare()
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:geheim@h/d", ""])
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """The fault names the setting and never shows a password."""
    with pytest.raises(SettingsFault, match="POSTLANE_TRACKER_DATABASE_URL") as fault:
        Store(url)
    assert "geheim" not in str(fault.value)
