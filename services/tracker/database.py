"""The tracker's database: SQLite for one process, PostgreSQL for replicas; reading it; what it says when away."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from shared.contract.errors import PostlaneError, SettingsFault

BUSY_SECONDS = 10


class DatabaseAway(PostlaneError, OSError):
    """The database does not answer or cannot write at present; the same can be tried again."""

    @classmethod
    def on(cls, doing: str, fault: SQLAlchemyError) -> "DatabaseAway":
        """Say what could not be done and what the database said, without the statement and its values."""
        original = getattr(fault, "orig", None)
        text = str(original) if isinstance(fault, OperationalError) or original is not None else type(fault).__name__
        return cls(f"the database cannot be {doing}: {' '.join(text.split())[:200]}")


def engine_for(url: str) -> Engine:
    """Return the engine of a database URL; the directory of an SQLite file is made.

    Errors: `SettingsFault` for a URL that cannot be used (it is not repeated: it may hold a password).
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsFault("POSTLANE_TRACKER_DATABASE_URL is not a database URL") from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in {None, "", ":memory:"}:
            raise SettingsFault("POSTLANE_TRACKER_DATABASE_URL must name a file: sqlite:///<file>")
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise SettingsFault("POSTLANE_TRACKER_DATABASE_URL must begin with sqlite:/// or postgresql://")


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # A commit lost with the machine is read again from the streams, since the position is lost with it.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


@contextlib.contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """Read the database as it is at one moment, in however many queries: a message's state fits its timeline.

    Errors: `DatabaseAway`, also for what fails inside.
    """
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ")
            else:
                connection.exec_driver_sql("BEGIN")  # Python's module begins by itself only before it writes
            yield connection
    except SQLAlchemyError as fault:
        raise DatabaseAway.on("read", fault) from fault
