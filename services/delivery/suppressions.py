"""The list of recipients a configuration no longer sends to, because their mailbox is gone."""

import logging
from datetime import datetime

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.errors import BusUnavailable, WrongSequence
from shared.contract.records import Suppression
from shared.contract.requests import AddSuppression, RemoveSuppression, SuppressionAdded, SuppressionRemoved
from shared.contract.subjects import suppression
from shared.runtime import clock

log = logging.getLogger("delivery")


class Suppressions:
    """Writes the bucket `suppressions` and follows it for every replica's entries."""

    def __init__(self, bus: Bus, enabled: bool) -> None:
        self._bucket: Bucket[Suppression] = Bucket(bus, "suppressions", Suppression)
        self.replica: Replica[Suppression] = Replica(bus, "suppressions", Suppression)
        self._enabled = enabled

    def find(self, configuration: str, address: str) -> Suppression | None:
        """Return the entry that stops mail of a configuration to an address, if there is one.

        Without the setting only what was entered by hand counts.
        """
        entry = self.replica.get(suppression(configuration, address))
        return entry if entry is not None and (self._enabled or not entry.queue_id) else None

    async def add(self, configuration: str, address: str, reason: str, queue_id: str, now: datetime) -> None:
        """Enter an address. The bounce is committed already: a bus that is away costs only this entry."""
        if not self._enabled:
            return
        entry = Suppression(configuration=configuration, address=address, reason=reason, queue_id=queue_id, at=now)
        try:
            name = suppression(configuration, address)
            self.replica.take(name, await self._bucket.create(name, entry), entry)
        except WrongSequence:
            pass  # it is there
        except BusUnavailable as fault:
            log.warning("a suppression could not be entered: %s", fault, extra={"queue_id": queue_id})

    async def enter(self, wish: AddSuppression) -> SuppressionAdded:
        """Put an address on a list by hand, for control; that takes the place of an entry that delivery made.

        Errors: `BusUnavailable`, `StoreFull`.
        """
        reason = f"entered by {wish.by}: {wish.reason or 'no reason given'}"
        entry = Suppression(
            configuration=wish.configuration, address=wish.address, reason=reason, queue_id="", at=clock.now()
        )
        name = suppression(wish.configuration, wish.address)
        try:
            present = await self._bucket.get(name)
            if present is not None and present.record.queue_id:  # else it would count only as long as the setting is on
                revision = await self._bucket.update(name, entry, present.revision)
            else:
                revision = await self._bucket.create(name, entry)
            self.replica.take(name, revision, entry)
        except WrongSequence:
            return SuppressionAdded(added=False)
        log.info("put on the suppression list", extra={"configuration": wish.configuration, "by": wish.by})
        return SuppressionAdded(added=True)

    async def remove(self, wish: RemoveSuppression) -> SuppressionRemoved:
        """Take an address off a list, for control.

        Errors: `BusUnavailable`.
        """
        name = suppression(wish.configuration, wish.address)
        entry = await self._bucket.get(name)
        if entry is None:
            return SuppressionRemoved(removed=False)
        await self._bucket.delete(name)
        log.info("taken off the suppression list", extra={"configuration": wish.configuration, "by": wish.by})
        return SuppressionRemoved(removed=True)
