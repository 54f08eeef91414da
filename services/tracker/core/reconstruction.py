"""An acceptance made again from the envelope of a message on the mail path.

Ingress may end between the PubAck of a message and the publishing of its acceptance, and reports made by delivery
never have one. The envelope tells all of it but the client: address, name, login and TLS stay unknown.
"""

import msgspec

from services.tracker.core.projection import Fact
from shared.contract import subjects
from shared.contract.envelope import Envelope
from shared.contract.events import MessageAccepted

ORDINAL = 0
"""Ordinal of a reconstructed acceptance in the timeline; those of a stream begin with 1."""


def acceptance(envelope: Envelope) -> MessageAccepted:
    """Return the acceptance an envelope stands for; the same envelope always makes the same one."""
    return MessageAccepted(
        id=envelope.queue_id,
        at=envelope.received_at,
        queue_id=envelope.queue_id,
        instance=envelope.instance,
        configuration=envelope.configuration,
        lane=envelope.lane,
        sender=envelope.sender,
        recipients=tuple(recipient.address for recipient in envelope.recipients),
        size=envelope.size,
        sha256=envelope.sha256,
        message_id=envelope.message_id,
        subject=envelope.subject,
        header_from=envelope.header_from,
        user=envelope.user,
        expires_at=envelope.expires_at,
    )


def fact(envelope: Envelope) -> Fact:
    """Return the acceptance as a fact that no stream holds."""
    return Fact(
        source="ACCEPTED",
        sequence=ORDINAL,
        subject=subjects.accepted(envelope.instance, envelope.configuration, envelope.queue_id),
        stored_at=envelope.received_at,
        payload=msgspec.json.encode(acceptance(envelope)),
    )
