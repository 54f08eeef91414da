"""A message that was stored long after it was received: its client may have been told 451, and will send it again.

Ingress then withdraws it, half a second later or as soon as the bus is there for it. What comes late is looked at again
a little later still, before it is tried.
"""

from datetime import datetime

BELATED_SECONDS = 3.0
"""Storing takes milliseconds; this is more than a busy machine adds, and less than any client waits."""
WITHDRAWAL_SECONDS = 5.0


def may_be_withdrawn(received_at: datetime, stored_at: datetime, deliveries: int) -> bool:
    """Whether a message is to wait for its withdrawal: at its first delivery, if it was stored so late."""
    return deliveries == 1 and (stored_at - received_at).total_seconds() > BELATED_SECONDS
