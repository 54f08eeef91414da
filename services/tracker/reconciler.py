"""Makes acceptances again for messages on the mail path that the database has no acceptance of."""

import logging
from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter

from services.tracker.core import audit, reconstruction
from services.tracker.core.fact import Fact, facts
from services.tracker.mail_path import MailPath
from services.tracker.store import Store
from shared.bus.client import Bus

log = logging.getLogger("tracker")

PAGES_LOOKED_AT = 200


class Reconciler:
    """Several replicas may do the same: an acceptance is written once, and one that was published always wins."""

    def __init__(self, bus: Bus, store: Store, path: MailPath, limit: int, metrics: CollectorRegistry) -> None:
        self._bus = bus
        self._store = store
        self._path = path
        self._limit = limit
        self._after = ""
        self._made = Counter("postlane_tracker_reconstructed", "Acceptances made from envelopes", registry=metrics)

    async def reconcile(self, unknown: Collection[str]) -> int:
        """Look at a bounded number of messages and return how many acceptances were made.

        Errors: `BusUnavailable`, `DatabaseAway`.
        """
        coming = await self._coming() if unknown else set()
        if coming is None:
            return 0  # there will be a round when the projection has nearly caught up
        chosen = audit.choose(set(unknown) - coming, frozenset(), self._after, self._limit)
        made = 0
        for queue_id in chosen:
            self._after = queue_id  # kept even if the next look fails: one bad message does not stop the others
            found = await self._lost(queue_id)
            if found is not None and await self._store.run(self._store.reconstruct, found):
                made += 1
                log.info("made an acceptance from the envelope", extra={"queue_id": queue_id})
        self._made.inc(made)
        return made

    async def _coming(self) -> set[str] | None:
        """Return the messages whose acceptances are published and not projected yet; None: too many to look at."""
        state = await self._bus.stream_state("ACCEPTED")
        position = await self._store.run(self._store.position, "ACCEPTED", state.created)
        if state.last_sequence - position.last_sequence > PAGES_LOOKED_AT:
            return None
        coming: set[str] = set()
        if position.last_sequence < state.last_sequence:
            async for stored in self._bus.scan("ACCEPTED", ">", position.last_sequence + 1):
                lines = facts("ACCEPTED", stored.sequence, stored.subject, stored.at, stored.payload)
                coming.update(line.subject.rpartition(".")[2] for line in lines)
        return coming

    async def _lost(self, queue_id: str) -> Fact | None:
        """Return the acceptance to write, None if the message is not there any more."""
        envelope = await self._path.envelope(queue_id)
        if envelope is None:
            return None
        try:
            return reconstruction.fact(envelope)
        except ValueError:  # instance or configuration is not a token: no envelope of ours
            log.warning("an envelope names no possible tenant", extra={"queue_id": queue_id})
            return None
