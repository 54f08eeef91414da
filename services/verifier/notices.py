"""Asking for notices: what a standing owes its contacts is put on the bus, then struck off the standing.

A crash in between repeats the same event under the same identity, which the stream and delivery know already.
"""

import logging
from collections.abc import Callable

import msgspec

from services.verifier.core import notice
from services.verifier.core.notice import Occasions
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract import subjects
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.events import NoticeRequested
from shared.contract.records import Configuration
from shared.contract.standing import OwedNotice, Standing

log = logging.getLogger("verifier")

STREAM = "NOTICES"
DESK = "standing"


class Notices:
    """Writes to the stream of notices for the contacts that `contacts` names."""

    def __init__(
        self,
        bus: Bus,
        occasions: Occasions,
        contacts: Callable[[str], tuple[str, ...]],
    ) -> None:
        self._bus = bus
        self._standings: Bucket[Standing] = Bucket(bus, "standing", Standing)
        self._occasions = occasions
        self._contacts = contacts

    async def settle(self, configuration: Configuration, standing: Standing, revision: int) -> Standing:
        """Ask for all that is owed; return the standing without it. What the bus did not take stays owed."""
        if not standing.owed:
            return standing
        recipients = self._contacts(configuration.id)
        told = msgspec.structs.replace(standing, owed=())
        try:
            for owed in standing.owed:
                if recipients:
                    await self._request(configuration, standing, owed, recipients)
                else:
                    log.info("%s: nobody to tell that it is %s: no questionnaire yet", standing.domain, owed.kind)
            await self._standings.update(configuration.id, told, revision)
        except WrongSequence:
            return told  # another check was written meanwhile; it owes the same, and will find that it was asked for
        except (BusUnavailable, StoreFull) as fault:
            log.warning("%s: its contacts could not be told yet: %s", standing.domain, fault)
            return standing
        return told

    async def _request(
        self, configuration: Configuration, standing: Standing, owed: OwedNotice, recipients: tuple[str, ...]
    ) -> None:
        event = NoticeRequested(
            id=notice.identity(standing, owed),
            at=owed.at,
            instance=standing.instance,
            configuration=standing.configuration,
            recipients=recipients,
            subject=notice.subject_of(standing, owed),
            text=notice.text_of(configuration, standing, owed, self._occasions),
        )
        await self._bus.store(
            subjects.notice(DESK, standing.instance, standing.configuration),
            msgspec.json.encode(event),
            stream=STREAM,
            message_id=event.id,
        )
