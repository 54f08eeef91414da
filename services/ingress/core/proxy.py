"""The PROXY protocol header a balancer sends first, versions 1 and 2 (as published by HAProxy), read strictly."""

import re
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import msgspec

from services.ingress.core.access import IpAddress, peer_address

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LIMIT = 107
V2_LIMIT = 536
"""Most octets of a version 2 header that are read, its extensions included."""
_V1 = re.compile(rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) ([0-9]{1,5}) ([0-9]{1,5})\r\n")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]{0,90})?\r\n")


class Proxied(msgspec.Struct, frozen=True):
    """A complete header; `address` None: the balancer speaks for itself (a health check)."""

    length: int
    address: IpAddress | None


Reading = Proxied | Literal["incomplete", "invalid"]


def read_header(received: bytes) -> Reading:
    """Read the header at the start of what was received so far."""
    if received.startswith(V2_SIGNATURE[: len(received)]):
        return _version2(received)
    if received.startswith(b"PROXY "[: len(received)]):
        return _version1(received)
    return "invalid"


def _version1(received: bytes) -> Reading:
    end = received.find(b"\n", 0, V1_LIMIT)
    if end < 0:
        return "incomplete" if len(received) < V1_LIMIT else "invalid"
    line = received[: end + 1]
    if _V1_UNKNOWN.fullmatch(line):
        return Proxied(len(line), None)
    match = _V1.fullmatch(line)
    if match is None or int(match[4]) > 65_535 or int(match[5]) > 65_535:
        return "invalid"
    source, destination = (peer_address(text.decode("ascii")) for text in match.group(2, 3))
    if source is None or destination is None:
        return "invalid"
    if any((match[1] == b"TCP6") != (b":" in text) for text in match.group(2, 3)):
        return "invalid"
    return Proxied(len(line), source)


def _version2(received: bytes) -> Reading:
    if len(received) < 16:
        return "incomplete"
    command, family = received[12], received[13]
    length = int.from_bytes(received[14:16], "big")
    if command not in (0x20, 0x21) or 16 + length > V2_LIMIT:
        return "invalid"
    if len(received) < 16 + length:
        return "incomplete"
    if command == 0x20 or family == 0x00:  # LOCAL, or a family nobody named
        return Proxied(16 + length, None)
    if family == 0x11 and length >= 12:
        return Proxied(16 + length, IPv4Address(received[16:20]))
    if family == 0x21 and length >= 36:
        address = IPv6Address(received[16:32])
        return Proxied(16 + length, address.ipv4_mapped or address)
    return "invalid"
