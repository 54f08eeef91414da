"""The table of regions: where applications send to, and which addresses mail leaves from."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from shared.contract.records import Rule

Kind = Literal["public", "private"]
PARTS = (4, 6)
"""An entry has the first four parts, or all six."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints of one region, each as host:port, "" if there is none."""

    region: str
    public: str
    """With STARTTLS."""
    private: str
    outgoing: tuple[str, ...]
    public_tls: str = ""
    """With TLS from the first octet (RFC 8314)."""
    private_tls: str = ""


def parse_endpoints(entries: Sequence[str]) -> tuple[Endpoint, ...]:
    """Read entries `region;public;private;outgoing addresses`, and maybe `;public TLS;private TLS`.

    Errors: `ValueError` names the entry that cannot be read.
    """
    return tuple(_parse(entry) for entry in entries)


def _parse(entry: str) -> Endpoint:
    parts = [part.strip() for part in entry.split(";")]
    places = parts[1:3] + parts[4:]
    if len(parts) not in PARTS or not parts[0] or not any(places):
        raise ValueError(
            f"endpoints: {entry!r} must have the form region;public host:port;private host:port;addresses, "
            "and may go on with ;public TLS host:port;private TLS host:port"
        )
    for place in filter(None, places):
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65_536:
            raise ValueError(f"endpoints: {place!r} in {entry!r} is not host:port")
    public_tls, private_tls = parts[4:] or ("", "")
    return Endpoint(
        region=parts[0],
        public=parts[1],
        private=parts[2],
        outgoing=tuple(parts[3].split()),
        public_tls=public_tls,
        private_tls=private_tls,
    )


def may_be_reached(rules: Iterable[Rule], zones: Collection[str], kind: Kind) -> bool:
    """Whether an instance's rules let anybody in by public or private endpoints: each enabled one must name a zone."""
    enabled = [rule for rule in rules if rule.enforcement == "enabled"]
    return bool(enabled) and all(
        any(
            name in zones
            for context in rule.contexts
            if not context.endpoints or kind in context.endpoints
            for name in context.zones
        )
        for rule in enabled
    )
