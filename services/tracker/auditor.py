"""Runs the standing audit and the reconciler: round after round, the database is held against the mail path."""

import asyncio
import logging
from datetime import datetime, timedelta

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from services.tracker.core import audit
from services.tracker.core.audit import Alarm, OpenMessage, Path
from services.tracker.database import DatabaseAway
from services.tracker.mail_path import MailPath
from services.tracker.reading import OPEN, Reading
from services.tracker.reconciler import Reconciler
from services.tracker.settings import TrackerSettings
from services.tracker.store import Store
from shared.bus.client import Bus
from shared.contract import errors, subjects
from shared.contract.envelope import FINAL
from shared.contract.errors import BusUnavailable
from shared.runtime import clock

log = logging.getLogger("tracker")


class _Last(msgspec.Struct):
    """What a STATUS record of any version has."""

    status: str = ""


class Auditor:
    """Keeps what the audit believes; its task belongs to the room."""

    def __init__(
        self, bus: Bus, store: Store, settings: TrackerSettings, shards: int, metrics: CollectorRegistry
    ) -> None:
        self._bus = bus
        self._store = store
        self._reading = Reading(store)
        self._settings = settings
        self._path = MailPath(bus, shards)
        self._reconciler = Reconciler(bus, store, self._path, settings.audit_candidates, metrics)
        self._alarm = Alarm()
        self._after = ""
        self._messages = Gauge("postlane_audit_messages", "Messages at the last audit", ["state"], registry=metrics)
        self._missing = Gauge("postlane_audit_missing", "Accepted messages that are nowhere", registry=metrics)
        self._waiting = Gauge("postlane_audit_unexamined", "Candidates left for later audits", registry=metrics)
        self._at = Gauge("postlane_audit_timestamp_seconds", "When the last audit was completed", registry=metrics)

    @property
    def missing(self) -> tuple[str, ...]:
        """Queue IDs of the messages that are missing."""
        return tuple(sorted(self._alarm.missing))

    def missing_since(self, queue_id: str) -> datetime | None:
        """Return when an alarm was raised for a message, None if it is not missing."""
        return self._alarm.missing.get(queue_id)

    async def run(self) -> None:
        """Audit for ever. A round that cannot be completed decides nothing."""
        while True:
            await asyncio.sleep(self._settings.audit_seconds)
            try:
                await self.round()
            except (BusUnavailable, DatabaseAway) as fault:
                log.warning("the audit could not be completed: %s", fault)

    async def round(self) -> Alarm:
        """Compare once and return what is believed now.

        Errors: `BusUnavailable`, `DatabaseAway`.
        """
        before = clock.now() - timedelta(seconds=self._settings.audit_grace_seconds)
        path = await self._path.everything()
        candidates, unknown = await self._compared(path, before)
        await self._reconciler.reconcile(unknown)
        looked = await self._looked(candidates)
        self._waiting.set(len(candidates) - len(looked))
        self._tell(audit.judge(self._alarm, candidates.keys(), looked, clock.now()))
        self._at.set(clock.now().timestamp())
        return self._alarm

    async def _compared(self, path: Path, before: datetime) -> tuple[dict[str, OpenMessage], list[str]]:
        """Return the open messages that seem absent, and the queue IDs on the path without an acceptance."""
        candidates: dict[str, OpenMessage] = {}
        unknown = set(path.queued)
        for status in OPEN:
            last: OpenMessage | None = None
            while page := await self._store.run(self._reading.open_page, status, last):
                last = page[-1]
                candidates |= {message.queue_id: message for message in audit.absent(page, path, before)}
                unknown.difference_update(message.queue_id for message in page if message.accepted_known)
        known = await self._store.run(self._reading.known, unknown)
        unknown -= known.keys()
        left_over = sum(1 for status in known.values() if status in FINAL)  # outdated copies: nobody waits for them
        counts = await self._store.run(self._reading.totals)
        finished = sum(count for status, count in counts.items() if status in FINAL)
        for state, count in (
            ("accepted", sum(counts.values())),
            ("finished", finished),
            ("queued", len(path.queued) - left_over),
            ("quarantined", len(path.quarantined)),
        ):
            self._messages.labels(state).set(count)
        return candidates, audit.unannounced(unknown, before)

    async def _looked(self, candidates: dict[str, OpenMessage]) -> dict[str, bool]:
        """Look at a bounded number of candidates one by one; tell of each whether it is really absent."""
        chosen = audit.choose(candidates, self._alarm.suspects, self._after, self._settings.audit_candidates)
        if chosen:
            self._after = chosen[-1]
        return {queue_id: await self._absent(candidates[queue_id]) for queue_id in chosen}

    async def _absent(self, message: OpenMessage) -> bool:
        if await self._path.holds(message.queue_id):
            return False
        # Read last: a message leaves the path only after its record is committed.
        try:
            subject = subjects.status(message.instance, message.configuration, message.queue_id)
        except ValueError:
            return True
        stored = await self._bus.last("STATUS", subject)
        if stored is None:
            return True
        try:
            return msgspec.json.decode(stored.payload, type=_Last).status not in FINAL
        except errors.UNREADABLE:
            return True

    def _tell(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._missing.set(len(alarm.missing))
        if alarm.raised:
            log.error(
                "messages are missing: accepted, not finished, and not on the mail path: %s",
                audit.named(alarm.raised),
                extra={"missing": len(alarm.missing)},
            )
        if alarm.cleared:
            log.info(
                "messages are no longer missing: %s", audit.named(alarm.cleared), extra={"missing": len(alarm.missing)}
            )
