"""An acceptance made again from the envelope of a message on the mail path.

Ingress may end between the PubAck of a message and the publishing of its acceptance, and reports made by delivery
never have one. The envelope tells all of it but the client: address, name, login and TLS stay unknown.
"""

import msgspec

from services.tracker.core.fact import Fact
from shared.contract import subjects
from shared.contract.envelope import Envelope
from shared.contract.events import acceptance

ORDINAL = 0
"""Ordinal of a reconstructed acceptance in the timeline; those of a stream begin with 1."""


def fact(envelope: Envelope) -> Fact:
    """Return the acceptance as a fact that no stream holds; the same envelope always makes the same one."""
    return Fact(
        source="ACCEPTED",
        sequence=ORDINAL,
        subject=subjects.accepted(envelope.instance, envelope.configuration, envelope.queue_id),
        stored_at=envelope.received_at,
        payload=msgspec.json.encode(acceptance(envelope)),
    )
