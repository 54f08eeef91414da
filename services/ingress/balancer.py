"""Reads the PROXY header of a trusted balancer from a socket nobody reads yet.

Exactly the header is taken: what follows it, perhaps the first octets of TLS, stays for its reader.
"""

import asyncio
import socket

from services.ingress.core.proxy import V2_LIMIT, Proxied
from services.ingress.core.proxy import read_header as parse_header

POLL_SECONDS = 0.005


async def read_header(accepted: socket.socket, seconds: float) -> Proxied | None:
    """Return the header, or None if there is no valid one in time; the socket stays open."""
    try:
        async with asyncio.timeout(seconds):
            return await _peek(accepted)
    except (TimeoutError, OSError):
        return None


async def _peek(peeking: socket.socket) -> Proxied | None:
    while True:
        try:
            received = peeking.recv(V2_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            received = None
        if received is not None:
            if not received:
                return None
            header = parse_header(received)
            if isinstance(header, Proxied):
                peeking.recv(header.length)
                return header
            if header == "invalid":
                return None
        # A peeked socket stays readable, so waiting for readability would spin.
        await asyncio.sleep(POLL_SECONDS)
