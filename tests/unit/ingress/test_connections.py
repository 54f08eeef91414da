"""Limits of connections: whom they count together, and that places that are left are free again."""

from ipaddress import IPv6Address
from pathlib import Path

from services.ingress.connections import Connections
from services.ingress.settings import IngressSettings

SETTINGS = IngressSettings(tls_certificate_file=Path("x"), tls_key_file=Path("x"), strangers_per_address=3)
FIRST = IPv6Address("2001:db8::")


def test_addresses_of_one_ipv6_host_count_together() -> None:
    """A stranger that takes another address for each connection has no more of them; a neighbour has its own."""
    connections = Connections(SETTINGS)
    addresses = [FIRST + number for number in range(4)]
    assert [connections.enter(each) for each in addresses[:3]] == ["", "", ""]
    assert connections.enter(addresses[3]) == "3 connections without login from 2001:db8::/64, the limit is 3"
    assert connections.enter(FIRST + (1 << 64)) == ""
    connections.recognise(addresses[0])
    assert connections.enter(addresses[3]) == ""
    connections.leave(addresses[0], stranger=False)
    for each in (*addresses[1:], FIRST + (1 << 64)):
        connections.leave(each, stranger=True)
    assert connections.total == 0
    assert not connections._strangers
    assert not connections._addresses
    assert not connections._networks
