"""The tables of the tracker's database. All of it is made from the streams and can be made again.

Times are microseconds since 1970 in a big integer: both databases order them, neither loses the zone.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(sa.TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Return the number to keep; a time without a zone is taken as UTC."""
        if value is None:
            return None
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Return the time of a kept number."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = sa.MetaData()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, default="", server_default="")


schema = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))

positions = sa.Table(
    "positions",
    metadata,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("stream_created", sa.Text, nullable=False),  # tells one life of a stream from the next
    sa.Column("base", sa.BigInteger, nullable=False),  # ordinal = base + sequence: goes on over a stream's next life
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("queue_id", sa.Text, primary_key=True),
    _text("instance"),
    _text("configuration"),
    _text("lane"),
    _text("sender"),
    _text("sender_key"),
    _text("sender_domain"),
    sa.Column("size", sa.BigInteger, nullable=False, default=0, server_default="0"),
    _text("sha256"),
    _text("message_id"),
    _text("subject"),
    _text("header_from"),
    _text("user"),
    _text("username"),
    _text("client_address"),
    _text("client_name"),
    _text("endpoint"),
    _text("tls"),
    sa.Column("accepted_known", sa.Boolean, nullable=False, default=False, server_default=sa.false()),
    sa.Column("accepted_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("status", sa.Text, nullable=False, default="queued", server_default="queued"),
    sa.Column("status_ordinal", sa.BigInteger, nullable=False, default=0, server_default="0"),
    _text("status_type"),
    sa.Column("attempt", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("next_attempt_at", Instant),
    _text("explanation"),
    _text("reason"),
    _text("by"),
)
sa.Index("messages_by_time", messages.c.accepted_at, messages.c.queue_id)
sa.Index("messages_by_instance", messages.c.instance, messages.c.accepted_at)
sa.Index("messages_by_configuration", messages.c.configuration, messages.c.accepted_at)
sa.Index("messages_by_status", messages.c.status, messages.c.accepted_at)
sa.Index("messages_by_message_id", messages.c.message_id)
sa.Index("messages_by_sender", messages.c.sender_key, messages.c.accepted_at)
sa.Index("messages_by_sender_domain", messages.c.sender_domain, messages.c.accepted_at)
sa.Index("messages_by_update", messages.c.updated_at)

recipients = sa.Table(
    "recipients",
    metadata,
    sa.Column("queue_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    _text("instance"),
    _text("configuration"),
    sa.Column("accepted_at", Instant, nullable=False),
    _text("address"),
    _text("address_key"),
    _text("address_domain"),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("status_ordinal", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("last", sa.LargeBinary, nullable=False),
    sa.Column("possible_duplicate", sa.Boolean, nullable=False),
    sa.Column("deferred_at", Instant),  # when it was first deferred, whatever became of it
)
sa.Index("recipients_by_address", recipients.c.address_key, recipients.c.accepted_at)
sa.Index("recipients_by_domain", recipients.c.address_domain, recipients.c.accepted_at)
sa.Index("recipients_by_acceptance", recipients.c.configuration, recipients.c.accepted_at)
sa.Index("recipients_by_state", recipients.c.configuration, recipients.c.at, recipients.c.status)
sa.Index(
    "recipients_by_deferral",
    recipients.c.configuration,
    recipients.c.deferred_at,
    sqlite_where=recipients.c.deferred_at.is_not(None),
    postgresql_where=recipients.c.deferred_at.is_not(None),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("queue_id", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.BigInteger, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)

refusals = sa.Table(
    "refusals",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.BigInteger, nullable=False),
    sa.Column("at", Instant, nullable=False),
    _text("instance"),
    _text("configuration"),
    sa.Column("code", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
sa.Index("refusals_by_time", refusals.c.at)
sa.Index("refusals_by_instance", refusals.c.instance, refusals.c.at)
