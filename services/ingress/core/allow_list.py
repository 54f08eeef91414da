"""The deprecated list of allowed addresses of a configuration: what was imported admits until its date, no longer."""

from datetime import datetime
from functools import lru_cache

from services.ingress.core.access import IpAddress, Ranges, ranges_of
from shared.contract.records import Configuration, ZoneAddress

LISTS_KEPT = 1_024


def admits(configuration: Configuration, address: IpAddress | None, at: datetime) -> bool:
    """Whether the imported list still lets an address in, for this configuration alone, by any endpoint."""
    if not configuration.allowed_addresses or configuration.allowed_until is None or address is None:
        return False
    return at < configuration.allowed_until and _read(configuration.allowed_addresses).covers(address)


@lru_cache(LISTS_KEPT)
def _read(entries: tuple[str, ...]) -> Ranges:
    return ranges_of(
        ZoneAddress(type="subnet" if "/" in entry else "ipRange" if "-" in entry else "ipAddress", value=entry)
        for entry in entries
    )
