"""Makes acceptances again for messages on the mail path that the database has no acceptance of."""

import logging
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from services.tracker.core import audit, reconstruction
from services.tracker.core.fact import Fact
from services.tracker.mail_path import MailPath
from services.tracker.store import Store
from shared.bus.client import Bus

log = logging.getLogger("tracker")


class Reconciler:
    """Several replicas may do the same: an acceptance is written once, and one that was published always wins."""

    def __init__(self, bus: Bus, store: Store, path: MailPath, limit: int, metrics: CollectorRegistry) -> None:
        self._bus = bus
        self._store = store
        self._path = path
        self._limit = limit
        self._after = ""
        self._made = Counter("postlane_tracker_reconstructed", "Acceptances made from envelopes", registry=metrics)

    async def reconcile(self, unknown: Iterable[str]) -> int:
        """Look at a bounded number of messages and return how many acceptances were made.

        Errors: `BusUnavailable`, `DatabaseAway`.
        """
        chosen = audit.choose(unknown, frozenset(), self._after, self._limit)
        made = 0
        for queue_id in chosen:
            self._after = queue_id  # kept even if the next look fails: one bad message does not stop the others
            found = await self._lost(queue_id)
            if found is not None and await self._store.run(self._store.reconstruct, found):
                made += 1
                log.info("made an acceptance from the envelope", extra={"queue_id": queue_id})
        self._made.inc(made)
        return made

    async def _lost(self, queue_id: str) -> Fact | None:
        """Return the acceptance to write; None if one was published, which the projection will bring."""
        envelope = await self._path.envelope(queue_id)
        if envelope is None:
            return None
        try:
            fact = reconstruction.fact(envelope)
        except ValueError:  # instance or configuration is not a token: no envelope of ours
            log.warning("an envelope names no possible tenant", extra={"queue_id": queue_id})
            return None
        published = await self._bus.last("ACCEPTED", fact.subject)
        return fact if published is None else None
