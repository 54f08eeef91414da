"""Reading the tracker's database: one message, searches, refusals, counts. Every method blocks, as the store's do."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
import sqlalchemy as sa

from services.tracker.core import rollup
from services.tracker.core.audit import OpenMessage
from services.tracker.core.fact import Source
from services.tracker.core.rollup import Measure, Tally
from services.tracker.core.rows import EventRow, RecipientRow, address_key, clean
from services.tracker.database import snapshot
from services.tracker.store import Store
from services.tracker.tables import events, messages, recipients, refusals
from shared.contract.envelope import Diagnosis
from shared.contract.requests import Bounce, CountMessages, ListBounces, MessageSummary, SearchMessages

OPEN = ("queued", "held", "deferred")
PAGE = 5000
"""Most open messages read at once."""
CHUNK = 500
"""Most queue IDs asked for in one query."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the database has it."""

    row: Any
    """The row of `messages`."""
    recipients: tuple[RecipientRow, ...]
    events: tuple[EventRow, ...]


class Reading:
    """Queries over a store."""

    def __init__(self, store: Store) -> None:
        self._engine = store.engine

    def message(self, queue_id: str, instances: Sequence[str] | None) -> Known | None:
        """Return a message of one of the instances (None: of any), or None.

        Errors: `DatabaseAway`, as for every query.
        """
        wanted = [messages.c.queue_id == queue_id, *_of(messages, instances)]
        with snapshot(self._engine) as connection:
            row = connection.execute(sa.select(messages).where(*wanted)).one_or_none()
            if row is None:
                return None
            of_it = recipients.c.queue_id == queue_id
            found = connection.execute(sa.select(recipients).where(of_it).order_by(recipients.c.number))
            told = connection.execute(sa.select(events).where(events.c.queue_id == queue_id))
            return Known(row=row, recipients=tuple(_recipient(r) for r in found), events=tuple(_event(e) for e in told))

    def search(self, wish: SearchMessages) -> tuple[list[MessageSummary], int]:
        """Return one page of the messages that match, newest first, and how many match in all."""
        where = _conditions(wish)
        page = (
            sa.select(messages)
            .where(*where)
            .order_by(messages.c.accepted_at.desc(), messages.c.queue_id.desc())
            .limit(wish.limit)
            .offset(wish.offset)
        )
        with snapshot(self._engine) as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(messages).where(*where)).scalar_one()
            rows = connection.execute(page).all()
            addresses: dict[str, list[str]] = {row.queue_id: [] for row in rows}
            for found in connection.execute(
                sa.select(recipients.c.queue_id, recipients.c.address)
                .where(recipients.c.queue_id.in_(addresses))
                .order_by(recipients.c.queue_id, recipients.c.number)
            ):
                addresses[found.queue_id].append(found.address)
        return [
            MessageSummary(
                queue_id=row.queue_id,
                instance=row.instance,
                configuration=row.configuration,
                status=row.status,
                sender=row.sender,
                recipients=tuple(addresses[row.queue_id]),
                subject=row.subject,
                accepted_at=row.accepted_at,
                updated_at=row.updated_at,
            )
            for row in rows
        ], total

    def refusal(self, reference: str, instances: Sequence[str] | None) -> bytes | None:
        """Return the event of a refusal as it was published, or None."""
        wanted = [refusals.c.reference == reference, *_of(refusals, instances)]
        with snapshot(self._engine) as connection:
            found = connection.execute(sa.select(refusals.c.body).where(*wanted)).scalar_one_or_none()
        return None if found is None else bytes(found)

    def tallies(self, wish: CountMessages) -> list[Tally]:
        """Count the recipients of a configuration by what became of them and when."""
        found: list[Tally] = []
        with snapshot(self._engine) as connection:
            for measure, moment, condition in (
                ("submitted", recipients.c.accepted_at, sa.true()),
                ("success", recipients.c.at, recipients.c.status.in_(sorted(rollup.SUCCESS))),
                ("bounced", recipients.c.at, recipients.c.status.in_(sorted(rollup.BOUNCED))),
                ("deferred", recipients.c.deferred_at, recipients.c.deferred_at.is_not(None)),
            ):
                bucket = sa.type_coerce(moment, sa.BigInteger) // (1_000_000 * wish.bucket_seconds)
                counted = (
                    sa.select(bucket.label("bucket"), sa.func.count().label("count"))
                    .where(
                        recipients.c.configuration == wish.configuration,
                        recipients.c.instance == wish.instance,
                        moment >= wish.since,
                        moment < wish.until,
                        condition,
                    )
                    .group_by(sa.text("bucket"))
                )
                for row in connection.execute(counted):
                    start = int(row.bucket) * wish.bucket_seconds
                    found.append(Tally(cast(Measure, measure), start, int(row.count)))  # type: ignore[call-overload]
        return found

    def bounces(self, wish: ListBounces) -> tuple[list[Bounce], int]:
        """Return one page of the recipients of a configuration that were given up, newest first, and how many."""
        joined = recipients.join(messages, messages.c.queue_id == recipients.c.queue_id)
        where = [
            recipients.c.configuration == wish.configuration,
            recipients.c.instance == wish.instance,
            recipients.c.at >= wish.since,
            recipients.c.at < wish.until,
            recipients.c.status.in_(sorted(rollup.BOUNCED)),
        ]
        if wish.recipient:
            where.append(_address(wish.recipient, recipients.c.address_key, recipients.c.address_domain))
        if wish.subject:
            where.append(messages.c.subject == clean(wish.subject))
        page = (
            sa.select(recipients, messages.c.subject, messages.c.client_address)
            .select_from(joined)
            .where(*where)
            .order_by(recipients.c.at.desc(), recipients.c.queue_id.desc(), recipients.c.number)
            .limit(wish.limit)
            .offset(wish.offset)
        )
        with snapshot(self._engine) as connection:
            counted = sa.select(sa.func.count()).select_from(joined).where(*where)
            total = connection.execute(counted).scalar_one()
            rows = connection.execute(page).all()
        return [
            Bounce(
                queue_id=row.queue_id,
                address=row.address,
                subject=row.subject,
                error=_last_word(row.status, bytes(row.last)),
                at=row.at,
                client_address=row.client_address,
            )
            for row in rows
        ], total

    def open_messages(self) -> dict[str, int]:
        """Count the messages that are not finished, by status: those are few, whatever the database remembers."""
        with snapshot(self._engine) as connection:
            counted = (
                sa.select(messages.c.status, sa.func.count())
                .where(messages.c.status.in_(OPEN))
                .group_by(messages.c.status)
            )
            return dict.fromkeys(OPEN, 0) | {row[0]: row[1] for row in connection.execute(counted)}

    def open_page(self, status: str, after: OpenMessage | None = None) -> list[OpenMessage]:
        """Return the next messages of an open status, oldest first, after the last one of the page before."""
        columns = [messages.c[name] for name in OpenMessage.__struct_fields__]
        page = sa.select(*columns).where(messages.c.status == status)
        page = page.order_by(messages.c.accepted_at, messages.c.queue_id).limit(PAGE)
        if after is not None:
            page = page.where(
                messages.c.accepted_at >= after.accepted_at,  # what the index can begin with
                sa.or_(messages.c.accepted_at > after.accepted_at, messages.c.queue_id > after.queue_id),
            )
        with snapshot(self._engine) as connection:
            return [OpenMessage(**row._mapping) for row in connection.execute(page)]

    def known(self, queue_ids: Iterable[str]) -> dict[str, str]:
        """Return the status of those of the messages whose acceptance is known."""
        ordered = sorted(queue_ids)
        found: dict[str, str] = {}
        with snapshot(self._engine) as connection:
            for start in range(0, len(ordered), CHUNK):
                wanted = messages.c.queue_id.in_(ordered[start : start + CHUNK])
                columns = sa.select(messages.c.queue_id, messages.c.status)
                found |= {
                    row[0]: row[1] for row in connection.execute(columns.where(wanted, messages.c.accepted_known))
                }
        return found

    def totals(self) -> dict[str, int]:
        """Count all messages by status."""
        with snapshot(self._engine) as connection:
            counted = sa.select(messages.c.status, sa.func.count()).group_by(messages.c.status)
            return {row[0]: row[1] for row in connection.execute(counted)}


def _last_word(status: str, last: bytes) -> str:
    said = msgspec.json.decode(last, type=Diagnosis | None)
    if said is None:
        return status
    return " ".join(word for word in (str(said.code or ""), said.enhanced, said.text) if word)


def _of(table: sa.Table, instances: Sequence[str] | None) -> list[sa.ColumnElement[bool]]:
    return [] if instances is None else [table.c.instance.in_(instances)]


def _conditions(wish: SearchMessages) -> list[sa.ColumnElement[bool]]:
    """Translate a search. `@domain` as recipient or sender matches every address of that domain."""
    where = _of(messages, wish.instances)
    if wish.configuration:
        where.append(messages.c.configuration == wish.configuration)
    if wish.message_id:
        bare = clean(wish.message_id.strip().strip("<>"))
        where.append(messages.c.message_id.in_((f"<{bare}>", bare)))
    if wish.recipient:
        matching = sa.select(recipients.c.queue_id).where(
            _address(wish.recipient, recipients.c.address_key, recipients.c.address_domain)
        )
        where.append(messages.c.queue_id.in_(matching))
    if wish.sender == "<>":
        where += [messages.c.sender_key == "", messages.c.accepted_known]
    elif wish.sender:
        where.append(_address(wish.sender, messages.c.sender_key, messages.c.sender_domain))
    if wish.status:
        where.append(messages.c.status == clean(wish.status))
    if wish.lane:
        where.append(messages.c.lane == clean(wish.lane))
    if wish.since is not None:
        where.append(messages.c.accepted_at >= wish.since)
    if wish.until is not None:
        where.append(messages.c.accepted_at < wish.until)
    return where


def _address(text: str, key: sa.Column[Any], domain: sa.Column[Any]) -> sa.ColumnElement[bool]:
    wanted, of_domain = address_key(clean(text.strip()))
    if wanted.startswith("@"):
        return domain == of_domain
    return key == wanted


def _recipient(row: Any) -> RecipientRow:
    fields = RecipientRow.__struct_fields__
    values: dict[str, Any] = {name: getattr(row, name) for name in fields}
    return RecipientRow(**values)


def _event(row: Any) -> EventRow:
    return EventRow(
        queue_id=row.queue_id,
        source=cast(Source, row.source),
        ordinal=row.ordinal,
        at=row.at,
        type=row.type,
        body=bytes(row.body),
    )
