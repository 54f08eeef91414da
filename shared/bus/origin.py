"""Tells what was published from what the server was made to send.

The server answers its JetStream API on whatever reply subject the request names, whether or not the asker may publish
there. A room that may write one thing and read it could so have its octets appear on a subject of another room. Such
an answer cannot hide what it is: a message read from a stream names stream and sequence in its header, and one handed
out by a consumer is to be acked. What is published on a subject of ours never does.
"""

import logging

from nats.aio.msg import Msg

log = logging.getLogger("bus")

MARKS = ("Nats-Stream", "Nats-Sequence", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-Consumer")


def diverted(message: Msg) -> bool:
    """Return whether the server was made to send this here; then nothing in it is to be believed."""
    headers = message.headers or {}
    found = message.reply.startswith("$JS.") or any(mark in headers for mark in MARKS)
    if found:
        log.error("an answer of the server was diverted here and is not believed", extra={"subject": message.subject})
    return found
