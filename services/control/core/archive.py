"""The directory as one file: a header, then one record a line; what must stay secret is sealed by whoever writes it.

    {"format": "postlane-export.v1", "made_at": …, "records": 3}
    {"bucket": "directory", "key": "instance.…", "record": {…}}
    {"seal": …}

The last line seals a digest of all before it: whoever cannot open it cannot change a role or a tenant either.

Order matters when it is read: nothing is written before what it refers to.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import msgspec

from shared.contract.errors import UNREADABLE
from shared.contract.records import ApiKey, DirectoryRecord, DkimKey, Record, User

FORMAT: Literal["postlane-export.v1"] = "postlane-export.v1"
BucketName = Literal["keys", "directory", "access"]
KINDS: Mapping[str, Any] = {"keys": DkimKey, "directory": DirectoryRecord, "access": ApiKey}
ORDER = ("instance", "domain", "roster", "zone", "rule", "configuration", "authorization", "suspension")
"""Kinds of the directory in the order they are written; what is not named comes after."""


class NotAnArchive(ValueError):
    """The file cannot be imported; the text names the line and what is wrong with it."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line."""

    format: Literal["postlane-export.v1"]
    made_at: datetime
    records: int


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record of a bucket."""

    bucket: BucketName
    key: str
    record: msgspec.Raw


class Seal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last line."""

    seal: str


class Item(msgspec.Struct, frozen=True):
    """A record that was read."""

    bucket: BucketName
    key: str
    record: Record


def write(items: Iterable[Item], made_at: datetime) -> bytes:
    """Return the file of these records, in the order they are to be read."""
    ordered = sorted(items, key=_place)
    lines: list[msgspec.Struct] = [Header(format=FORMAT, made_at=made_at, records=len(ordered))]
    lines += [Line(bucket=i.bucket, key=i.key, record=msgspec.Raw(msgspec.json.encode(i.record))) for i in ordered]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def digest(octets: bytes) -> bytes:
    """Return what is sealed of a file without its last line."""
    return sha256(octets).hexdigest().encode()


def with_seal(octets: bytes, seal: str) -> bytes:
    """Return a file with its last line."""
    return octets + msgspec.json.encode(Seal(seal=seal)) + b"\n"


def without_seal(octets: bytes) -> tuple[bytes, str]:
    """Return a file without its last line, and the seal that stands there; the whole and "" if none does."""
    start = octets.rstrip(b"\r\n").rfind(b"\n") + 1
    try:
        return octets[:start], msgspec.json.decode(octets[start:], type=Seal).seal
    except UNREADABLE:
        return octets, ""


def read(octets: bytes) -> list[Item]:
    """Return the records of a file without its seal, in the order they are to be written.

    Errors: `NotAnArchive` for the first line that cannot be read, and for a file that is cut off.
    """
    lines = octets.splitlines()
    try:
        header = msgspec.json.decode(lines[0] if lines else b"", type=Header)
    except UNREADABLE as fault:
        raise NotAnArchive(f"line 1: this is not an export of Postlane: {fault}") from fault
    items = [_item(number, line) for number, line in enumerate(lines[1:], 2)]
    if len(items) != header.records:
        raise NotAnArchive(f"the file has {len(items)} records, its first line says {header.records}: is it cut off?")
    return sorted(items, key=_place)


def _item(number: int, line: bytes) -> Item:
    try:
        found = msgspec.json.decode(line, type=Line)
        record = msgspec.json.decode(found.record, type=KINDS[found.bucket])
    except UNREADABLE as fault:
        raise NotAnArchive(f"line {number}: {fault}") from fault
    return Item(found.bucket, found.key, record)


def secrets_of(record: Record) -> tuple[str, ...]:
    """Return the hashes in a record that nobody should be able to try passwords against."""
    match record:
        case User():
            return tuple(password.hash for password in record.passwords)
        case ApiKey():
            return (record.hash,)
        case _:
            return ()


def with_secrets(record: Record, secrets: tuple[str, ...]) -> Record:
    """Return the record with its hashes replaced, in the same order."""
    match record:
        case User():
            replaced = zip(record.passwords, secrets, strict=True)
            passwords = tuple(msgspec.structs.replace(password, hash=secret) for password, secret in replaced)
            return msgspec.structs.replace(record, passwords=passwords)
        case ApiKey():
            return msgspec.structs.replace(record, hash=secrets[0])
        case _:
            return record


def instance_of(record: Record) -> str:
    """Return the instance a record belongs to, "" for those that belong to none."""
    return str(getattr(record, "instance", "") or "")


def _place(item: Item) -> tuple[int, int, str]:
    kind = item.key.partition(".")[0]
    rank = ORDER.index(kind) if kind in ORDER else len(ORDER)
    return list(KINDS).index(item.bucket), rank, item.key
