"""Writing the tracker's database.

Every method but `run` blocks: call it by `run`, in one of the store's threads.

Writing is idempotent: the same facts twice, or in another order, leave the same rows.
"""

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from services.tracker import tables
from services.tracker.core.fact import SOURCES, Fact, Source
from services.tracker.core.projection import project
from services.tracker.core.rows import EventRow, Rows, clean
from services.tracker.database import DatabaseAway, engine_for
from services.tracker.tables import events, messages, positions, recipients, refusals
from shared.contract.errors import SettingsFault

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
SCHEMA_LOCK = 0x506F73746C616E65
"""Key of the lock under which PostgreSQL's schema is made by one replica at a time."""

REFUSED = (DataError, IntegrityError, OverflowError)
"""What databases say to rows they cannot hold; the last is SQLite's word for a number beyond 64 bits."""
UNPROJECTABLE = "unprojectable"
"""Prefix of the type of an event whose rows the database refuses."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far the database has come in a stream."""

    base: int
    last_sequence: int


class Store:
    """The database with the threads that wait for it; closed by its owner."""

    def __init__(self, url: str) -> None:
        self.engine = engine_for(url)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="database")
        self._insert: Any = postgresql.insert if self.engine.dialect.name == "postgresql" else sqlite.insert

    def prepare(self) -> None:
        """Make the tables unless they are there.

        Errors: `DatabaseAway`; `SettingsFault` if a newer version of the product has made them.
        """
        try:
            with self.engine.begin() as connection:
                if self.engine.dialect.name == "postgresql":
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
                tables.metadata.create_all(connection)
                found = connection.execute(sa.select(tables.schema.c.version)).scalar()
                if found is None:
                    connection.execute(sa.insert(tables.schema).values(version=tables.SCHEMA_VERSION))
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("prepared", fault) from fault
        if found not in {None, tables.SCHEMA_VERSION}:
            raise SettingsFault(
                f"the tracker's database has schema {found}, this version knows {tables.SCHEMA_VERSION}:"
                " name a new database, it is filled from the streams"
            )

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do something that blocks in one of the store's threads; whoever stops waiting for it does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(job, *args, **kwargs))

    def close(self) -> None:
        """Wait for what is being done, then close all connections."""
        self._threads.shutdown(wait=True)
        self.engine.dispose()

    def position(self, source: Source, stream_created: str) -> Position:
        """Return how far the database has come in this life of a stream, beginning a new one if it is another.

        Errors: `DatabaseAway`.
        """
        try:
            with self.engine.begin() as connection:
                row = connection.execute(sa.select(positions).where(positions.c.source == source)).one_or_none()
                if row is None:
                    fresh = {"source": source, "stream_created": stream_created, "base": 0, "last_sequence": 0}
                    connection.execute(self._insert(positions).values(fresh).on_conflict_do_nothing())
                elif row.stream_created != stream_created:
                    connection.execute(
                        sa.update(positions)
                        .where(positions.c.source == source, positions.c.stream_created == row.stream_created)
                        .values(stream_created=stream_created, base=row.base + row.last_sequence, last_sequence=0)
                    )
                row = connection.execute(sa.select(positions).where(positions.c.source == source)).one()
                return Position(base=row.base, last_sequence=row.last_sequence)
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("read", fault) from fault

    def go_back(self, source: Source, position: Position, last_sequence: int) -> Position:
        """Go on with a stream that ends before a position: what it hands out now is newer than all that is known.

        Nobody can say what it has stored since it went back. Errors: `DatabaseAway`.
        """
        base = position.base + position.last_sequence
        try:
            with self.engine.begin() as connection:
                connection.execute(
                    sa.update(positions)
                    .where(
                        positions.c.source == source,
                        positions.c.base == position.base,
                        positions.c.last_sequence == position.last_sequence,  # else a replica was quicker
                    )
                    .values(base=base, last_sequence=last_sequence)
                )
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("written", fault) from fault
        return Position(base=base, last_sequence=last_sequence)

    def apply(self, facts: Sequence[Fact]) -> list[Fact]:
        """Add facts in one transaction; return those whose rows the database refuses, kept as unknown events.

        Errors: `DatabaseAway`: nothing of the batch is kept.
        """
        try:
            self._apply(facts)
        except REFUSED:
            return self._apply_singly(facts)
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("written", fault) from fault
        return []

    def _apply_singly(self, facts: Sequence[Fact]) -> list[Fact]:
        refused: list[Fact] = []
        for fact in facts:
            try:
                self._apply([fact])
            except REFUSED:
                refused.append(fact)
                self._keep_aside(fact)
            except SQLAlchemyError as fault:
                raise DatabaseAway.on("written", fault) from fault
        return refused

    def _keep_aside(self, fact: Fact) -> None:
        """Keep an event that has no rows, so that the projection goes on and nothing is forgotten."""
        try:
            with self.engine.begin() as connection:
                ordinal = self._bases(connection)[fact.source] + fact.sequence
                row = EventRow(
                    queue_id=clean(fact.subject.rsplit(".", 1)[-1]),
                    source=fact.source,
                    ordinal=ordinal,
                    at=fact.stored_at,
                    type=UNPROJECTABLE,
                    body=msgspec.json.encode(fact.payload.decode("utf-8", "replace")),
                )
                self._put_events(connection, [row])
                self._advance(connection, [fact])
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("written", fault) from fault

    def _apply(self, facts: Sequence[Fact]) -> None:
        with self.engine.begin() as connection:
            rows = project(facts, self._bases(connection))
            self._put_events(connection, rows.events)
            self._put_messages(connection, rows)
            self._put_recipients(connection, rows)
            if rows.refusals:
                put = self._insert(refusals).on_conflict_do_nothing()
                connection.execute(put, _dicts(rows.refusals))
            self._advance(connection, facts)

    def reconstruct(self, fact: Fact) -> bool:
        """Add an acceptance that no stream holds, unless one is known; return whether the database took it.

        A published one that comes later replaces it. Errors: `DatabaseAway`.
        """
        rows = project([fact], dict.fromkeys(SOURCES, 0))
        try:
            with self.engine.begin() as connection:
                put, told = self._accepted_upsert(rows)
                unless_known = put.on_conflict_do_update(
                    index_elements=["queue_id"], set_=told, where=messages.c.accepted_known.is_(False)
                ).returning(messages.c.queue_id)
                if connection.execute(unless_known, _accepted_values(rows)).first() is None:
                    return False
                self._put_events(connection, rows.events)
                self._put_recipients(connection, rows)
        except REFUSED:
            return False
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("written", fault) from fault
        return True

    def _bases(self, connection: Connection) -> dict[Source, int]:
        found: dict[Source, int] = {"ACCEPTED": 0, "STATUS": 0, "REFUSALS": 0}
        for row in connection.execute(sa.select(positions.c.source, positions.c.base)):
            found[cast(Source, row.source)] = row.base
        return found

    def _put_events(self, connection: Connection, rows: list[EventRow]) -> None:
        if rows:
            connection.execute(self._insert(events).on_conflict_do_nothing(), _dicts(rows))

    def _put_messages(self, connection: Connection, rows: Rows) -> None:
        if rows.accepted:
            self._put_accepted(connection, rows)
        if rows.statuses:
            put = self._insert(messages)
            kept = {"queue_id", "instance", "configuration", "accepted_at"}
            told = {name: put.excluded[name] for name in type(rows.statuses[0]).__struct_fields__ if name not in kept}
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=["queue_id"],
                    set_=told,
                    where=put.excluded.status_ordinal > messages.c.status_ordinal,
                ),
                _dicts(rows.statuses),
            )

    def _put_accepted(self, connection: Connection, rows: Rows) -> None:
        put, told = self._accepted_upsert(rows)
        connection.execute(put.on_conflict_do_update(index_elements=["queue_id"], set_=told), _accepted_values(rows))

    def _accepted_upsert(self, rows: Rows) -> tuple[Any, dict[str, Any]]:
        put = self._insert(messages)
        names = [name for name in type(rows.accepted[0]).__struct_fields__ if name != "queue_id"]
        return put, {**{name: put.excluded[name] for name in names}, "accepted_known": True}

    def _put_recipients(self, connection: Connection, rows: Rows) -> None:
        if rows.accepted_recipients:
            put = self._insert(recipients)
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=["queue_id", "number"], set_={"accepted_at": put.excluded.accepted_at}
                ),
                _dicts(rows.accepted_recipients),
            )
        if rows.status_recipients:
            put = self._insert(recipients)
            told = ("status", "status_ordinal", "attempts", "at", "last", "possible_duplicate")
            connection.execute(
                put.on_conflict_do_update(
                    index_elements=["queue_id", "number"],
                    set_={name: put.excluded[name] for name in told},
                    where=put.excluded.status_ordinal > recipients.c.status_ordinal,
                ),
                _dicts(rows.status_recipients),
            )
        if rows.deferrals:
            first = sa.bindparam("first", type_=tables.Instant)
            connection.execute(
                sa.update(recipients)
                .where(
                    recipients.c.queue_id == sa.bindparam("of"),
                    recipients.c.number == sa.bindparam("nth"),
                    sa.or_(recipients.c.deferred_at.is_(None), recipients.c.deferred_at > first),
                )
                .values(deferred_at=first),
                [{"of": row.queue_id, "nth": row.number, "first": row.at} for row in rows.deferrals],
            )

    def _advance(self, connection: Connection, facts: Iterable[Fact]) -> None:
        highest: dict[Source, int] = {}
        for fact in facts:
            highest[fact.source] = max(fact.sequence, highest.get(fact.source, 0))
        for source in sorted(highest):
            connection.execute(
                sa.update(positions)
                .where(positions.c.source == source, positions.c.last_sequence < highest[source])
                .values(last_sequence=highest[source])
            )

    def forget(self, before: datetime, limit: int = 1000) -> int:
        """Remove finished messages last changed, and refusals made, before a time; return how many went.

        At most `limit` messages go at once, so that writers are not kept waiting. Errors: `DatabaseAway`.
        """
        old = (
            sa.select(messages.c.queue_id)
            .where(messages.c.updated_at < before, messages.c.status.not_in(("queued", "held", "deferred")))
            .order_by(messages.c.updated_at)
            .limit(limit)
        )
        try:
            with self.engine.begin() as connection:
                gone = list(connection.scalars(old))
                for table in (events, recipients, messages) if gone else ():
                    connection.execute(sa.delete(table).where(table.c.queue_id.in_(gone)))
                connection.execute(sa.delete(refusals).where(refusals.c.at < before))
        except SQLAlchemyError as fault:
            raise DatabaseAway.on("written", fault) from fault
        return len(gone)


def _accepted_values(rows: Rows) -> list[dict[str, Any]]:
    return [{**row, "accepted_known": True, "updated_at": row["accepted_at"]} for row in _dicts(rows.accepted)]


def _dicts(rows: Sequence[msgspec.Struct]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(row) for row in rows]
