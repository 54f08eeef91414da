"""The shape of the queue: unfinished recipients by destination and age, counted where their states are known."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from services.tracker.database import snapshot
from services.tracker.reading import OPEN
from services.tracker.tables import recipients
from shared.contract.requests import QueueShape, ShapeQueue, ShapeRow

MINUTES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""Limits of the columns: each twice as old as the one before, as the waits of retries grow."""


def shape(engine: sa.Engine, wish: ShapeQueue, now: datetime) -> QueueShape:
    """Count the unfinished recipients, the destination with most of them first.

    Errors: `DatabaseAway`. Blocks.
    """
    where: list[sa.ColumnElement[bool]] = [recipients.c.status.in_(OPEN)]
    if wish.instances is not None:
        where.append(recipients.c.instance.in_(wish.instances))
    if wish.configuration:
        where.append(recipients.c.configuration == wish.configuration)
    limits = [now - timedelta(minutes=minutes) for minutes in MINUTES]
    ages = [
        sa.func.sum(sa.case((sa.and_(*_between(newer, older)), 1), else_=0))
        for newer, older in zip([None, *limits], [*limits, None], strict=True)
    ]
    total = sa.func.count().label("total")
    counted = sa.select(recipients.c.address_domain, total, *ages).where(*where).group_by(recipients.c.address_domain)
    with snapshot(engine) as connection:
        all_of_it = connection.execute(
            sa.select(sa.func.count(sa.distinct(recipients.c.address_domain)), sa.func.count()).where(*where)
        ).one()
        rows = connection.execute(counted.order_by(total.desc(), recipients.c.address_domain).limit(wish.limit)).all()
    return QueueShape(
        minutes=MINUTES,
        rows=tuple(
            ShapeRow(destination=row[0], total=row[1], by_age=tuple(int(count) for count in row[2:])) for row in rows
        ),
        destinations=all_of_it[0],
        total=all_of_it[1],
    )


def _between(newer: datetime | None, older: datetime | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions: accepted before `newer` (None: now) and not before `older` (None: ever)."""
    found: list[sa.ColumnElement[bool]] = []
    if newer is not None:
        found.append(recipients.c.accepted_at < newer)
    if older is not None:
        found.append(recipients.c.accepted_at >= older)
    return found
