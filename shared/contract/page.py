"""A page: events that are stored together, as one record of a stream, each on a line of its own.

A record is synced to disk by itself, so a page costs the server as much as a single event, which is a page of one line.
"""

from collections.abc import Iterable


def written(events: Iterable[bytes]) -> bytes:
    """Return the page of some events in JSON, which has no LF in it."""
    return b"\n".join(events)


def lines(page: bytes) -> list[bytes]:
    """Return the events of a page, each as it was written."""
    return page.split(b"\n")
