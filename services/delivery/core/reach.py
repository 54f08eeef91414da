"""Which addresses delivery may connect to: only what the public Internet routes, and what a setting opens.

An exchanger's address comes from a stranger's DNS, so it is checked after resolution and the connection is made to
the checked address, never to the name again (a second look-up could answer otherwise).
"""

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))  # RFC 6052, RFC 8215
"""The second is for local use: only its translator knows which of its bits are the IPv4 address."""
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4",
        "::/96", "fec0::/10", "2001::/32", "100::/64", "3fff::/20",
    )
)  # fmt: skip
"""Special networks (RFC 6890 and successors) that `ipaddress` does not call private in every version of Python."""


def networks(texts: Iterable[str]) -> tuple[IpNetwork, ...]:
    """Parse networks of a setting; a single address is a network of one. Errors: `ValueError` names the text."""
    return tuple(ip_network(text, strict=False) for text in texts)


def plain(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that an IPv6 address carries in it, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64[0]:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _SIX_TO_FOUR and address.sixtofour is not None:
            return address.sixtofour
    return address


def unmapped(text: str) -> str:
    """Return an address as it is connected to: packets to a mapped one are IPv4, and leave from our IPv4 addresses."""
    with suppress(ValueError):
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return text


def refusal(text: str, allowed: tuple[IpNetwork, ...], refused: tuple[IpNetwork, ...] = ()) -> str:
    """Return why delivery must not connect to an address, as a clause, or "" if it may.

    `allowed` opens networks that are not public; `refused` closes networks (our own addresses) and is stronger.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return "it is not an address"
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "it has a zone"
    inner = plain(address)
    if _within(address, refused) or _within(inner, refused):
        return "it is one of our own"
    if _within(inner, allowed) and (inner is address or _within(address, allowed) or inner.version == 4):
        return ""
    translated = isinstance(address, IPv6Address) and any(address in network for network in _NAT64)
    if translated and not _within(address, allowed):  # whoever opens it opens what is public behind it
        return "it leads through a NAT64 translator"
    if inner.is_loopback:
        return "it is a loopback address"
    if inner.is_link_local:
        return "it is a link-local address"
    if inner.is_multicast:
        return "it is a multicast address"
    if inner.is_unspecified or inner.is_reserved:
        return "it is a reserved address"
    if inner.is_private or not inner.is_global or _within(inner, _NEVER):
        return "it is not a public address"
    return ""


def _within(address: IpAddress, ranges: tuple[IpNetwork, ...]) -> bool:
    return any(address.version == network.version and address in network for network in ranges)
