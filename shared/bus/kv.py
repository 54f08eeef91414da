"""Buckets of records.

A bucket is a JetStream key-value store with one writer. Its writer repeats every write for the replicas
(`shared.bus.replica`).
"""

import base64
from collections import OrderedDict
from typing import Any, Generic, TypeVar

import msgspec

from shared.bus.client import Bus
from shared.bus.rewriting import rewritten
from shared.bus.stored import Stored
from shared.contract import subjects
from shared.contract.errors import UNREADABLE, RecordUnreadable, WrongSequence
from shared.contract.records import Record

R = TypeVar("R", bound=Record)

REMEMBERED = 200
"""Records of a bucket that are between being read and being written again."""


class Entry(msgspec.Struct, Generic[R], frozen=True):
    """A record in a bucket at a revision."""

    key: str
    revision: int
    record: R


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A write, repeated by the bucket's writer."""

    key: str
    revision: int
    value: str | None
    """Base64 of the record; None: deleted."""


def deleted(stored: Stored) -> bool:
    """Return whether a record of a bucket says that its key is gone."""
    return stored.headers.get("KV-Operation") in {"DEL", "PURGE"}


class Bucket(Generic[R]):
    """Reads and writes of one bucket; every write is checked against its revision where one is given."""

    def __init__(self, bus: Bus, name: str, record_type: Any) -> None:
        self._bus = bus
        self.name = name
        self._stream = f"KV_{name}"
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(record_type)
        self._read: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        """What was read or written last of a key, for who changes it."""

    def _subject(self, key: str) -> str:
        return f"$KV.{self.name}.{key}"

    def _key(self, subject: str) -> str:
        return subject.removeprefix(f"$KV.{self.name}.")

    def decode(self, value: bytes) -> R:
        """Decode a record of this bucket.

        Errors: `msgspec.ValidationError`.
        """
        return self._decoder.decode(value)

    async def get(self, key: str) -> Entry[R] | None:
        """Return the present record of a key.

        Errors: `BusUnavailable`, `RecordUnreadable` among them.
        """
        stored = await self._bus.last(self._stream, self._subject(key))
        if stored is None or deleted(stored):
            return None
        found = Entry(key, stored.sequence, self._readable(key, stored.payload))
        self._remember(key, stored.sequence, stored.payload)
        return found

    async def entries(self, prefix: str = "") -> list[Entry[R]]:
        """Return all records whose keys begin with `prefix` (whole tokens).

        Errors: `BusUnavailable`, `RecordUnreadable` among them.
        """
        wanted = f"$KV.{self.name}.{prefix.rstrip('.')}.>" if prefix else f"$KV.{self.name}.>"
        return [
            Entry(key := self._key(stored.subject), stored.sequence, self._readable(key, stored.payload))
            async for stored in self._bus.scan(self._stream, wanted)
            if not deleted(stored)
        ]

    async def create(self, key: str, record: R) -> int:
        """Write a record that must not exist; return its revision.

        Errors: `WrongSequence` if it exists; `BusUnavailable`.
        """
        last = await self._bus.last(self._stream, self._subject(key))
        if last is not None and not deleted(last):
            raise WrongSequence(f"{key} exists already")
        return await self._write(key, record, last.sequence if last else 0)

    async def update(self, key: str, record: R, revision: int) -> int:
        """Replace a record that must still have this revision; return the new one.

        If it was read here, fields of a later version that could not be read stay in it.

        Errors: `WrongSequence` if somebody else wrote first; `BusUnavailable`.
        """
        at, written = self._read.pop(key, (0, b""))
        value = rewritten(record, self.decode(written), written) if at == revision else msgspec.json.encode(record)
        sequence = await self._store(key, value, revision)
        self._remember(key, sequence, value)
        return sequence

    async def put(self, key: str, record: R) -> int:
        """Write a record whatever was there; return its revision.

        Errors: `BusUnavailable`.
        """
        return await self._write(key, record, None)

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Delete a record, at this revision if one is given; a missing record is no error.

        Errors: `WrongSequence`, `BusUnavailable`.
        """
        sequence = await self._bus.store(
            self._subject(key), b"", stream=self._stream, expected_last=revision, headers={"KV-Operation": "DEL"}
        )
        await self._repeat(Change(key=key, revision=sequence, value=None))

    async def _write(self, key: str, record: R, expected_last: int | None) -> int:
        return await self._store(key, msgspec.json.encode(record), expected_last)

    async def _store(self, key: str, value: bytes, expected_last: int | None) -> int:
        sequence = await self._bus.store(self._subject(key), value, stream=self._stream, expected_last=expected_last)
        await self._repeat(Change(key=key, revision=sequence, value=base64.b64encode(value).decode()))
        return sequence

    def _readable(self, key: str, value: bytes) -> R:
        try:
            return self.decode(value)
        except UNREADABLE as fault:
            raise RecordUnreadable(f"record {key} of bucket {self.name} cannot be read: {fault}") from fault

    def _remember(self, key: str, revision: int, value: bytes) -> None:
        self._read[key] = revision, value
        self._read.move_to_end(key)
        if len(self._read) > REMEMBERED:
            self._read.popitem(last=False)

    async def _repeat(self, change: Change) -> None:
        await self._bus.publish(subjects.changed(self.name), msgspec.json.encode(change))
