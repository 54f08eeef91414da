"""The table of regions: where applications send to, and which addresses mail leaves from."""

from collections.abc import Sequence

import msgspec


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints of one region."""

    region: str
    public: str
    """host:port, "" if there is none."""
    private: str
    outgoing: tuple[str, ...]


def parse_endpoints(entries: Sequence[str]) -> tuple[Endpoint, ...]:
    """Read entries `region;public;private;outgoing addresses`.

    Errors: `ValueError` names the entry that cannot be read.
    """
    found = []
    for entry in entries:
        parts = [part.strip() for part in entry.split(";")]
        if len(parts) != 4 or not parts[0] or not (parts[1] or parts[2]):
            raise ValueError(
                f"endpoints: {entry!r} must have the form region;public host:port;private host:port;addresses"
            )
        found.append(Endpoint(region=parts[0], public=parts[1], private=parts[2], outgoing=tuple(parts[3].split())))
    return tuple(found)
