"""Sends reports on failure, delay and success: each is a new message with its own queue ID, among the due ones."""

import logging
from datetime import datetime

from services.delivery.commit import Commits
from services.delivery.core import dsn, reporting
from services.delivery.core.dsn import Action
from services.delivery.gates import Gates
from services.delivery.message import Message
from services.delivery.settings import DeliverySettings
from shared.contract.envelope import Carriage, RecipientState
from shared.contract.events import AnyStatus
from shared.contract.subjects import shard_of
from shared.runtime import clock

log = logging.getLogger("delivery")


class Reports:
    """Makes each report once per attempt: its queue ID follows from the message's, the attempt and the kind."""

    def __init__(self, settings: DeliverySettings, commits: Commits, gates: Gates, shards: int) -> None:
        self._settings = settings
        self._commits = commits
        self._gates = gates
        self._shards = shards

    async def send(
        self, message: Message, before: tuple[RecipientState, ...], event: AnyStatus, expires_at: datetime
    ) -> None:
        """Report what a committed record means to those who want to know. Repeating it changes nothing.

        Errors: `BusUnavailable`.
        """
        envelope = message.carriage.envelope
        waited = self._settings.delay_report_seconds
        await self._send(message, event, "failed", "FAILURE", reporting.failed(before, event), expires_at)
        delayed = reporting.delayed(before, event, envelope.received_at, waited)
        await self._send(message, event, "delayed", "DELAY", delayed, expires_at)
        await self._send(message, event, "relayed", "SUCCESS", reporting.relayed(before, event), expires_at)

    async def _send(
        self,
        message: Message,
        event: AnyStatus,
        action: Action,
        word: str,
        states: tuple[RecipientState, ...],
        expires_at: datetime,
    ) -> None:
        envelope = message.carriage.envelope
        states = reporting.of_interest(envelope, states, word)
        to = dsn.target(envelope, self._gates.configuration(envelope.configuration)) if states else ""
        if not to:
            return
        report = dsn.report(
            envelope,
            states,
            # One report on a delay, however many attempts make it known.
            attempt=0 if action == "delayed" else event.attempt,
            to=to,
            original=message.mail,
            reporting_mta=self._settings.ehlo_name,
            now=clock.now(),
            action=action,
            until=expires_at,
            full_bytes=self._settings.report_full_bytes,
        )
        last, _ = await self._commits.last(report.envelope)
        if last is not None:
            return  # it was made before and is on its way or arrived
        queue_id = report.envelope.queue_id
        where = message.place._replace(shard=shard_of(queue_id, self._shards), queue_id=queue_id)
        await self._commits.put_due(where, Carriage(envelope=report.envelope), report.mail)
        log.info("reported %s to the sender", action, extra={"queue_id": envelope.queue_id, "report": queue_id})
