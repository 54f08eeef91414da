"""Copies of one message: a crash between a move and its ack leaves two, of which exactly one goes on."""

from services.delivery.core import step
from services.delivery.message import Message
from shared.bus.client import Bus


async def superseded(bus: Bus, message: Message, state: step.Known) -> bool:
    """Return whether another copy of this message will go on instead of this one.

    Copies yield in one direction only: ready to due, older due to newer due, both to scheduled and held; so one
    always remains.

    Errors: `BusUnavailable`.
    """
    place, stream = message.place, message.place.retry_stream
    from_due = message.lease.subject == place.due
    # A message that was only put aside has a second copy and no newer record: redelivery is the sign of that.
    doubtful = state.outdated or message.lease.deliveries > 1
    if doubtful:
        for subject in (place.later, place.held):
            if await bus.last(stream, subject) is not None:
                return True
    if doubtful or from_due:
        other = await bus.last(stream, place.due)
        return other is not None and (not from_due or other.sequence > message.lease.sequence)
    return False
