"""What a committed record entails: addresses that are sent to no more, and reports to whoever wants to know.

A crash may come between the commit and its consequences; then they are taken again, which changes nothing.
"""

from datetime import datetime

from services.delivery.core import reporting, staging
from services.delivery.message import Message
from services.delivery.reports import Reports
from services.delivery.suppressions import Suppressions
from shared.contract.envelope import RecipientState
from shared.contract.events import AnyStatus


class Consequences:
    """Takes the consequences of records."""

    def __init__(self, suppressions: Suppressions, reports: Reports) -> None:
        self._suppressions = suppressions
        self._reports = reports

    async def take(
        self, message: Message, before: tuple[RecipientState, ...], event: AnyStatus, expires_at: datetime
    ) -> None:
        """Do what a record entails for a message whose recipients were as in `before`.

        Errors: `BusUnavailable`.
        """
        envelope = message.carriage.envelope
        for recipient in reporting.failed(before, event) if staging.tries_real_mailboxes(envelope.staging) else ():
            if recipient.last is not None and reporting.mailbox_gone(recipient, event.recipients):
                reason = f"{recipient.last.code} {recipient.last.enhanced} {recipient.last.text}".strip()
                at = recipient.at or event.at
                await self._suppressions.add(envelope.configuration, recipient.address, reason, envelope.queue_id, at)
        if not staging.leaves_nothing(envelope.staging):
            await self._reports.send(message, before, event, expires_at)
