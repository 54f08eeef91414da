"""A message in hand: what its lease turned out to be of."""

from hashlib import sha256

import msgspec

from services.delivery.leases import Lease
from shared.contract.envelope import Carriage, Progress, Undecodable, unpack
from shared.contract.subjects import Place, parse_place


class Message(msgspec.Struct):
    """A message that could be read."""

    lease: Lease
    place: Place
    carriage: Carriage
    mail: bytes
    dots: int = 0
    """Final dots sent for it."""

    def moved(self, progress: Progress) -> Carriage:
        """Return what its copy at another place carries."""
        return msgspec.structs.replace(self.carriage, progress=progress)


def opened(lease: Lease) -> Message:
    """Read a message and check that it is what its subject and its envelope say.

    Errors: `Undecodable`.
    """
    place = parse_place(lease.subject)
    carriage, mail = unpack(lease.payload)
    envelope = carriage.envelope
    if place is None or (place.queue_id, place.configuration) != (envelope.queue_id, envelope.configuration):
        raise Undecodable("the envelope does not belong to its subject")
    if sha256(mail).hexdigest() != envelope.sha256:
        raise Undecodable("the mail does not match the hash in its envelope")
    return Message(lease, place, carriage, mail)
