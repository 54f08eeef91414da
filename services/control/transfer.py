"""Export and import of the whole directory, on the host itself, with control's right to write.

Hashes of passwords and API keys are sealed with the master key in the file; signing keys are sealed anyway. Only a
Postlane with the same master key can import it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from services.control.core import archive
from services.control.core.archive import Item, NotAnArchive
from services.control.directory import Directory
from services.control.keys import HOST
from services.control.settings import ControlSettings
from shared.bus.client import Bus, connect
from shared.bus.kv import Bucket, Entry
from shared.bus.settings import BusSettings
from shared.contract.records import Record
from shared.runtime.clock import now
from shared.runtime.sealing import MasterKey, read_master_key, seal, unseal
from shared.runtime.settings import load

SEAL = "export"
"""What the seal of a whole file is bound to."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did, or would do."""

    created: int
    replaced: int
    unchanged: int
    conflicts: tuple[str, ...]
    """Keys that hold something else here; nothing at all was written because of them."""


async def export(environ: Mapping[str, str], file: Path | None) -> bytes:
    """Return the directory, the signing keys and the API keys as one file.

    Needs the settings of control, its bus connection among them.

    Errors: `SettingsFault`, `SealBroken`, `BusUnavailable`.
    """
    settings = load(ControlSettings, "control", environ, file)
    master_key = read_master_key(settings.master_key_file)
    bus = await connect(load(BusSettings, "bus", environ, file), "control")
    try:
        present = await _present(bus)
    finally:
        await bus.close()
    items = [
        Item(bucket, key, _sealed(entry.record, key, master_key))  # type: ignore[arg-type]  # the names are KINDS'
        for (bucket, key), entry in present.items()
    ]
    octets = archive.write(items, now())
    return archive.with_seal(octets, seal(master_key, archive.digest(octets), SEAL))


async def import_(
    environ: Mapping[str, str], file: Path | None, octets: bytes, replace: bool, dry_run: bool
) -> Imported:
    """Write what a file holds; without `replace` nothing is written if anything here differs from the file.

    Safe to repeat, also after it was interrupted. What is here and not in the file stays.

    Errors: `NotAnArchive`, `SealBroken` for another master key, `SettingsFault`, `BusUnavailable`, `WrongSequence` if
    somebody changes a record meanwhile.
    """
    settings = load(ControlSettings, "control", environ, file)
    master_key = read_master_key(settings.master_key_file)
    body, sealed = archive.without_seal(octets)
    read = archive.read(body)
    if not sealed:
        raise NotAnArchive("its last line is not its seal: is it cut off?")
    if unseal(master_key, sealed, SEAL) != archive.digest(body):
        raise NotAnArchive("the file is not as it was written; to change the directory, use `postlane apply`")
    items = [Item(i.bucket, i.key, _opened(i.record, i.key, master_key)) for i in read]
    _check_keys(items, master_key)
    bus = await connect(load(BusSettings, "bus", environ, file), "control")
    try:
        present = await _present(bus)
        conflicts = tuple(
            item.key for item in items if (e := present.get((item.bucket, item.key))) and e.record != item.record
        )
        written = () if dry_run or (conflicts and not replace) else items
        await _write(bus, written, present, settings)
    finally:
        await bus.close()
    created = sum((item.bucket, item.key) not in present for item in items)
    return Imported(
        created=created,
        replaced=len(conflicts) if replace else 0,
        unchanged=len(items) - created - len(conflicts),
        conflicts=() if replace else conflicts,
    )


async def _present(bus: Bus) -> dict[tuple[str, str], Entry[Record]]:
    found: dict[tuple[str, str], Entry[Record]] = {}
    for name, kind in archive.KINDS.items():
        bucket: Bucket[Record] = Bucket(bus, name, kind)
        # The bucket of API keys also holds when each was last used, which is nobody's to move.
        for entry in await bucket.entries("key." if name == "access" else ""):
            found[(name, entry.key)] = entry
    return found


async def _write(
    bus: Bus, items: Iterable[Item], present: Mapping[tuple[str, str], Entry[Record]], settings: ControlSettings
) -> None:
    log = Directory(bus, settings.lapse_seconds)
    buckets: dict[str, Bucket[Record]] = {name: Bucket(bus, name, kind) for name, kind in archive.KINDS.items()}
    for item in items:
        entry = present.get((item.bucket, item.key))
        if entry is None:
            await buckets[item.bucket].create(item.key, item.record)
        elif entry.record != item.record:
            await buckets[item.bucket].update(item.key, item.record, entry.revision)
        else:
            continue
        if item.bucket != "keys":
            before = None if entry is None else entry.record
            await log.audit(HOST, "import", item.key, archive.instance_of(item.record), before, item.record)


def _sealed(record: Record, key: str, master_key: MasterKey) -> Record:
    return archive.with_secrets(
        record, tuple(seal(master_key, secret.encode(), f"export.{key}") for secret in archive.secrets_of(record))
    )


def _opened(record: Record, key: str, master_key: MasterKey) -> Record:
    return archive.with_secrets(
        record, tuple(unseal(master_key, secret, f"export.{key}").decode() for secret in archive.secrets_of(record))
    )


def _check_keys(items: Iterable[Item], master_key: MasterKey) -> None:
    """Refuse a file whose signing keys this Postlane could not use."""
    for item in items:
        if item.bucket == "keys":
            sealed = getattr(item.record, "sealed", "")
            if not sealed:
                raise NotAnArchive(f"{item.key}: there is no signing key in it")
            unseal(master_key, sealed, item.key)
