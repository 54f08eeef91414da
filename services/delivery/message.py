"""A message in hand: what a consumer gave out, and what it turned out to be."""

from hashlib import sha256
from typing import Protocol

import msgspec

from shared.contract.envelope import Carriage, Undecodable, unpack
from shared.contract.subjects import Place, parse_place


class InHand(Protocol):
    """A message taken from a consumer, as `worker` holds it."""

    @property
    def subject(self) -> str:
        """Where it lay."""

    @property
    def payload(self) -> bytes:
        """Carriage and mail."""

    @property
    def sequence(self) -> int:
        """Its sequence in its stream."""

    @property
    def deliveries(self) -> int:
        """How often the server has handed it out, as far as the server knows."""

    @property
    def received_at(self) -> float:
        """When it came into our hands, by the loop's clock."""

    @property
    def past_dot(self) -> bool:
        """Whether a final dot was allowed: it may have been sent, whatever became of the attempt."""

    async def ack(self) -> None:
        """Let it go."""

    async def give_back(self, delay_seconds: float) -> None:
        """Return it, to be offered again."""

    def may_finish(self) -> bool:
        """Whether the hold on it is certain enough to send the final dot."""


class Message(msgspec.Struct):
    """A message that could be read."""

    held: InHand
    place: Place
    carriage: Carriage
    mail: bytes
    dots: int = 0
    """Final dots sent for it."""


def opened(held: InHand) -> Message:
    """Read a message and check that it is what its subject and its envelope say.

    Errors: `Undecodable`.
    """
    place = parse_place(held.subject)
    carriage, mail = unpack(held.payload)
    envelope = carriage.envelope
    if place is None or (place.queue_id, place.configuration) != (envelope.queue_id, envelope.configuration):
        raise Undecodable("the envelope does not belong to its subject")
    if sha256(mail).hexdigest() != envelope.sha256:
        raise Undecodable("the mail does not match the hash in its envelope")
    return Message(held, place, carriage, mail)
