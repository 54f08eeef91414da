"""Changing the sandbox's zones: what `postlane sandbox dns set|rm|ls` does."""

from pathlib import Path

import dns.exception
import dns.rdatatype
import dns.zonefile
import msgspec
from dns.rdtypes.ANY.TXT import TXT

from services.sandbox import zones
from services.sandbox.core.lookup import FAULT, RecordSet, labels
from services.sandbox.zones import Names, ZoneFault


class Listed(msgspec.Struct, frozen=True):
    """One record set of the sandbox."""

    name: str
    type: str
    values: tuple[str, ...]
    ttl_seconds: int | None = None


def set_record(directory: Path, name: str, kind: str, values: tuple[str, ...], ttl_seconds: int | None = None) -> None:
    """Replace the records of a name and type.

    Errors: `ZoneFault` says what is wrong; nothing is changed then.
    """
    owner, kind = zones.normal_name(name), zones.checked(kind, values)

    def edit(names: Names) -> None:
        sets = names.setdefault(owner, {})
        others = sets.keys() - {kind, FAULT}
        if kind == "CNAME" and others:  # RFC 1034 §3.6.2: a CNAME stands alone
            raise ZoneFault(f"{owner} has {', '.join(sorted(others))}: remove that before setting a CNAME")
        if "CNAME" in others and kind != FAULT:
            raise ZoneFault(f"{owner} has a CNAME: remove that before setting {kind}")
        sets[kind] = RecordSet(values, ttl_seconds)

    zones.change(directory, edit)


def load_zone_file(directory: Path, text: str) -> int:
    """Publish the records of a zone file with full names (RFC 1035 §5); return how many.

    Errors: `ZoneFault` says what is wrong; nothing is changed if the file cannot be read.
    """
    try:
        found = dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=3600)
    except dns.exception.DNSException as fault:
        raise ZoneFault(f"this is not a zone file: {fault}") from fault
    for records in found:
        # A TXT record's strings are one value in the sandbox, which splits them itself.
        values = tuple(
            b"".join(record.strings).decode("utf-8", "replace") if isinstance(record, TXT) else record.to_text()
            for record in records
        )
        set_record(directory, records.name.to_text(), dns.rdatatype.to_text(records.rdtype), values)
    return sum(len(records) for records in found)


def remove(directory: Path, name: str, kind: str = "") -> int:
    """Remove a name's records of one type, or all of them; return how many record sets went."""
    owner, kind = zones.normal_name(name), kind.upper()
    removed: list[str] = []

    def edit(names: Names) -> None:
        sets = names.get(owner, {})
        removed.extend([kind] if kind in sets else [] if kind else list(sets))
        for gone in removed:
            del sets[gone]
        if not sets:
            names.pop(owner, None)

    zones.change(directory, edit)
    return len(removed)


def list_records(directory: Path, beneath: str = "") -> list[Listed]:
    """Return all records, or those of a name and the names beneath it, sorted from the root down."""
    suffix = labels(zones.normal_name(beneath)) if beneath else ()
    found = [
        Listed(name, kind, records.values, records.ttl_seconds)
        for name, sets in zones.read(directory).items()
        if labels(name)[len(labels(name)) - len(suffix) :] == suffix
        for kind, records in sorted(sets.items())
    ]
    return sorted(found, key=lambda record: (labels(record.name)[::-1], record.type))
