"""Which of our addresses mail leaves from, and the name it says there."""

from collections.abc import Sequence
from ipaddress import ip_address
from zlib import crc32

import msgspec


class Egress(msgspec.Struct, frozen=True, kw_only=True):
    """The outgoing addresses: all of them, those of each pool, and their names."""

    addresses: tuple[str, ...] = ()
    pools: dict[str, tuple[str, ...]] = {}
    names: dict[str, str] = {}

    def source(self, configuration: str, pool: str, towards: str) -> str | None:
        """Return the address a configuration sends from towards an address; "" for whichever the system takes.

        None: its pool has no address of that family, or is none of these, so nothing may go there.
        """
        version = ip_address(towards).version
        known = self.pools.get(pool, ()) if pool else None
        own = [a for a in (self.addresses if known is None else known) if ip_address(a).version == version]
        if own:
            return own[crc32(configuration.encode()) % len(own)]
        return "" if known is None else None

    def name(self, source: str, default: str) -> str:
        """Return the name for EHLO from one of our addresses."""
        return self.names.get(source, default)


def pairs(entries: Sequence[str]) -> list[tuple[str, str]]:
    """Split entries of the form `left=right`. Errors: `ValueError` names the entry."""
    found = []
    for entry in entries:
        left, equals, right = entry.partition("=")
        if not (left.strip() and equals and right.strip()):
            raise ValueError(f"{entry!r} is not of the form name=value")
        found.append((left.strip(), right.strip()))
    return found


def egress(addresses: Sequence[str], pools: Sequence[str], names: Sequence[str]) -> Egress:
    """Read the settings. Errors: `ValueError` says what does not fit."""
    known = tuple(str(ip_address(text)) for text in addresses)
    members: dict[str, tuple[str, ...]] = {}
    for pool, address in pairs(pools):
        if str(ip_address(address)) not in known:
            raise ValueError(f"{address} of pool {pool} is not one of egress_addresses")
        members[pool] = (*members.get(pool, ()), str(ip_address(address)))
    said = {str(ip_address(address)): name for address, name in pairs(names)}
    for address in said:
        if address not in known:
            raise ValueError(f"{address} has a name and is not one of egress_addresses")
    return Egress(addresses=known, pools=members, names=said)
