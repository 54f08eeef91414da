"""Asking for mails to a tenant's contacts: delivery writes them from the operator's own configuration.

The identity of a notice follows from what it tells of, so asking twice is telling once.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec

from services.control.directory import Directory
from shared.contract import subjects
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.events import NoticeRequested
from shared.contract.records import Authorization, Configuration

log = logging.getLogger("control")

STREAM = "NOTICES"
DESK = "desk"
TRIES = 3


class Notices:
    """Writes to the stream of notices."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def tell(self, configuration: Configuration, about: str, at: datetime, subject: str, text: str) -> None:
        """Tell the contacts of a configuration; without a questionnaire there are none.

        `about` names what happened at `at` and never happens twice, for example a decision with its moment.
        """
        authorization = self._directory.get(f"authorization.{configuration.id}", Authorization)
        if authorization is not None:
            await self.write(configuration, about, at, authorization.questionnaire.contacts, subject, text)

    async def write(
        self,
        configuration: Configuration,
        about: str,
        at: datetime,
        recipients: Sequence[str],
        subject: str,
        text: str,
    ) -> None:
        """Ask for a mail. What it tells of is done: if the bus does not take it, the log gets it."""
        event = NoticeRequested(
            id=hashlib.sha256(f"{configuration.id} {about}".encode()).hexdigest()[:32],
            at=at,
            instance=configuration.instance,
            configuration=configuration.id,
            recipients=tuple(recipients),
            subject=subject,
            text=text,
        )
        body = msgspec.json.encode(event)
        where = subjects.notice(DESK, configuration.instance, configuration.id)
        for _ in range(TRIES):
            try:
                await self._directory.bus.store(where, body, stream=STREAM, message_id=event.id)
            except BusUnavailable:
                continue
            except StoreFull:
                break
            return
        log.error("contacts could not be told: %s", subject, extra={"configuration": configuration.id})
