"""Sends reports on failures: each is a new message with its own queue ID, stored among the due ones."""

import logging

from services.delivery.commit import Commits
from services.delivery.core import dsn
from services.delivery.gates import Gates
from services.delivery.settings import DeliverySettings
from shared.contract.envelope import Envelope, RecipientState
from shared.contract.subjects import Place, shard_of
from shared.runtime import clock

log = logging.getLogger("delivery")


class Reports:
    """Makes a report exactly once per attempt: its queue ID follows from the message's and the attempt's number."""

    def __init__(self, settings: DeliverySettings, commits: Commits, gates: Gates, shards: int) -> None:
        self._settings = settings
        self._commits = commits
        self._gates = gates
        self._shards = shards

    async def send(
        self, envelope: Envelope, mail: bytes, failed: tuple[RecipientState, ...], attempt: int, place: Place
    ) -> None:
        """Report `failed` to whom it concerns; nothing is sent if there is nobody or a repeat is seen.

        Errors: `BusUnavailable`.
        """
        to = dsn.target(envelope, self._gates.configuration(envelope.configuration))
        asked = {r.number: r for r in envelope.recipients}
        failed = tuple(r for r in failed if r.number in asked and dsn.wanted(asked[r.number]))
        if not to or not failed:
            return
        report = dsn.report(
            envelope,
            failed,
            attempt=attempt,
            to=to,
            original=mail,
            reporting_mta=self._settings.ehlo_name,
            now=clock.now(),
        )
        last, _ = await self._commits.last(report.envelope)
        if last is not None:
            return  # it was made before and is on its way or arrived
        queue_id = report.envelope.queue_id
        where = place._replace(shard=shard_of(queue_id, self._shards), queue_id=queue_id)
        await self._commits.put_due(where, report.envelope, report.mail)
        log.info("reported to the sender", extra={"queue_id": envelope.queue_id, "report": queue_id})
