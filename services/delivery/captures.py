"""Keeps staged messages in CAPTURED, where their tenant can look at them."""

import logging
from collections.abc import Sequence

import msgspec

from services.delivery.core import outcome, staging
from services.delivery.core.outcome import Outcome
from shared.bus.client import Bus
from shared.contract import subjects
from shared.contract.envelope import Envelope, Recipient
from shared.contract.errors import StoreFull, WrongSequence
from shared.contract.events import MessageCaptured
from shared.runtime import clock

log = logging.getLogger("delivery")

STREAM = "CAPTURED"
MAIL_LIMIT = 24_000_000
"""Octets of a mail that fit on the bus in base64; of a larger one the header is kept."""


class Captures:
    """Writes CAPTURED, once per message."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def keep(self, envelope: Envelope, recipients: Sequence[Recipient], mail: bytes) -> Outcome:
        """Keep a message for some of its recipients; return what becomes of them.

        Errors: `BusUnavailable`.
        """
        event = MessageCaptured(
            id=f"{envelope.queue_id}.captured",
            at=clock.now(),
            queue_id=envelope.queue_id,
            instance=envelope.instance,
            configuration=envelope.configuration,
            sender=envelope.sender,
            recipients=tuple(r.address for r in recipients),
            mail=mail if len(mail) <= MAIL_LIMIT else mail.partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        )
        subject = subjects.captured(envelope.instance, envelope.configuration, envelope.queue_id)
        try:
            await self._bus.store(subject, msgspec.json.encode(event), stream=STREAM, expected_last=0)
        except WrongSequence:
            pass  # kept before, by an attempt that did not come to its end
        except StoreFull as fault:
            log.warning("not kept yet, the store of captured mail is full: %s", fault)
            return outcome.ours("4.3.1", "the store of captured messages is full; its oldest make room after 72 hours")
        return staging.kept()
