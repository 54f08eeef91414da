"""The zones file: what the name server serves, changed while it runs.

`zones.json` in the sandbox's directory maps names to types to values. Every change replaces the file in one step under
a lock, so a reader sees the old state or the new one, and two commands at once lose nothing.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import msgspec

from services.sandbox.core.lookup import FAULT, FAULT_SYNTAX, RecordSet, ZoneData, labels, parse_fault
from shared.contract.errors import UNREADABLE

FILE = "zones.json"
STRING_LIMIT = 255  # RFC 1035 §3.3: a character-string has at most 255 octets

Names = dict[str, dict[str, RecordSet]]


class ZoneFault(ValueError):
    """A record that cannot be served; the text says why."""


class ZonesFile(msgspec.Struct, frozen=True):
    """The content of `zones.json`."""

    names: Names = {}


def read(directory: Path) -> Names:
    """Return all records; no file is no records.

    Errors: `ZoneFault` if the file cannot be read as zones.
    """
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=ZonesFile).names
    except FileNotFoundError:
        return {}
    except (*UNREADABLE, OSError) as fault:
        raise ZoneFault(f"{directory / FILE} cannot be read: {fault}") from fault


def change(directory: Path, edit: Callable[[Names], None]) -> None:
    """Let `edit` change the records, then put the file in place as one step.

    Errors: `ZoneFault` from `edit` or for a file that cannot be read; nothing is changed then.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        names = read(directory)
        edit(names)
        fresh = directory / f"{FILE}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(ZonesFile(names)), indent=1))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(directory / FILE)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / f"{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def normal_name(text: str) -> str:
    """Return a name in lower case without its final dot.

    Errors: `ZoneFault`.
    """
    try:
        return dns.name.from_text(text).canonicalize().to_text(omit_final_dot=True)
    except (dns.exception.DNSException, ValueError) as fault:
        raise ZoneFault(f"{text!r} is not a DNS name: {fault}") from fault


def rdata_of(kind: str, value: str) -> dns.rdata.Rdata:
    """Turn a value into a record. A TXT value is the text itself (cut into strings), or quoted strings as written.

    Errors: `ZoneFault`.
    """
    text = value
    if kind == "TXT" and not value.startswith('"'):
        octets = value.encode()
        pieces = [octets[i : i + STRING_LIMIT] for i in range(0, max(len(octets), 1), STRING_LIMIT)]
        text = " ".join('"' + "".join(_escaped(octet) for octet in piece) + '"' for piece in pieces)
    try:
        return dns.rdata.from_text(
            dns.rdataclass.IN, dns.rdatatype.from_text(kind), text, origin=dns.name.root, relativize=False
        )
    except (dns.exception.DNSException, ValueError) as fault:
        raise ZoneFault(f"{value!r} is not a value of type {kind}: {fault}") from fault


def _escaped(octet: int) -> str:
    return chr(octet) if 0x20 <= octet < 0x7F and octet not in b'"\\' else f"\\{octet:03d}"


def checked(kind: str, values: tuple[str, ...]) -> str:
    """Return the type in upper case if every value is one of it.

    Errors: `ZoneFault`.
    """
    kind = kind.upper()
    if not values:
        raise ZoneFault(f"a record of type {kind} needs a value")
    if kind == FAULT:
        if len(values) != 1 or parse_fault(values[0]) is None:
            raise ZoneFault(f"a FAULT needs one value of the form {FAULT_SYNTAX}")
        return kind
    try:
        number = dns.rdatatype.from_text(kind)
    except (dns.exception.DNSException, ValueError) as fault:
        raise ZoneFault(f"{kind} is not a record type") from fault
    if dns.rdatatype.is_metatype(number):
        raise ZoneFault(f"{kind} is a question, not a record")
    if kind in {"CNAME", "SOA"} and len(values) != 1:
        raise ZoneFault(f"a name has at most one {kind}")
    for value in values:
        rdata_of(kind, value)
    return kind


def compiled(names: Names) -> ZoneData:
    """Return the records ready for look-ups."""
    return ZoneData({labels(text): sets for text, sets in names.items()})
