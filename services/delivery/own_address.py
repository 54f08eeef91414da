"""Tells which addresses are this machine's own, so that no stranger's DNS leads delivery back to where it runs."""

import socket
from ipaddress import ip_address

from services.delivery.core import reach

ANY_PORT = 9


def is_own(address: str, allowed: tuple[reach.IpNetwork, ...]) -> bool:
    """Return whether an address is one of this machine, and no setting opens it."""
    parsed = reach.plain(ip_address(address))
    opened = any(parsed.version == network.version and parsed in network for network in allowed)
    return not opened and is_local(address)


def is_local(address: str) -> bool:
    """Return whether packets to an address would not leave this machine: they would come from that very address.

    The kernel is asked, and sends nothing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, ANY_PORT))
            return ip_address(probe.getsockname()[0]) == ip_address(address)
    except OSError:
        return False  # no way leads there
