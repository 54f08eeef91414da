"""Tells what was published from what the server was made to send.

The server answers its JetStream API on whatever reply subject the request names, whether or not the asker may publish
there. A room that may write one thing and read it could so have its octets appear on a subject of another room. Such
an answer cannot hide what it is: a message read from a stream names stream and sequence in its header, and one handed
out by a consumer is to be acked. What is published on a subject of ours never does.

Such an answer may also end in a stream that takes the subject, and whoever reads it there gets marks of that stream
instead. But everybody who writes names the stream, and the server takes no record that names another one: what was
stored elsewhere first cannot name this one.
"""

import logging
from collections.abc import Mapping

from nats.aio.msg import Msg

log = logging.getLogger("bus")

EXPECTED = "Nats-Expected-Stream"
SCHEDULER = "Nats-Scheduler"
STATUS = "Status"
MARKS = ("Nats-Stream", "Nats-Sequence", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-Consumer")


def diverted(message: Msg) -> bool:
    """Return whether the server was made to send this here; then nothing in it is to be believed."""
    headers = message.headers or {}
    found = message.reply.startswith("$JS.") or any(mark in headers for mark in MARKS)
    if found:
        log.error("an answer of the server was diverted here and is not believed", extra={"subject": message.subject})
    return found


def written_into(stream: str, headers: Mapping[str, str], subject: str) -> bool:
    """Return whether a record was published into this stream; if not, nothing in it is to be believed.

    A schedule that fires stores its message by itself, and names its own subject instead of the stream.
    """
    shard = stream.removeprefix("RETRY_")
    fired = shard != stream and headers.get(SCHEDULER, "").startswith(f"postlane.retry.{shard}.")
    found = fired or headers.get(EXPECTED) == stream
    if not found:
        log.error("a record that the server was made to store is not believed", extra={"subject": subject})
    return found


def headers_of(block: bytes) -> dict[str, str]:
    """Read the lines of a header as the server does: names as they are.

    Else a record could name one stream to the server and another one to us. Of two alike the server looks at the first
    when it takes a record, and adds its marks last when it gives it out. A status is not among the lines.
    """
    found: dict[str, str] = {}
    for line in block.split(b"\r\n"):
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon and name != STATUS and not (name == EXPECTED and name in found):
            found[name] = value.strip()
    return found
