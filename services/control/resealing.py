"""Sealing every secret anew after the master key was replaced, while the rooms run."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.control.settings import ControlSettings
from shared.bus.client import Bus, connect
from shared.bus.kv import Bucket, Entry
from shared.bus.settings import BusSettings
from shared.contract.errors import WrongSequence
from shared.contract.records import DkimKey
from shared.runtime.sealing import MasterKey, SealBroken, read_master_key, seal, unseal
from shared.runtime.settings import load

TRIES = 20


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    anew: int
    already: int
    """Sealed with the present key before."""
    broken: tuple[str, ...]
    """Names of what no key of the file opens."""


async def reseal(environ: Mapping[str, str], file: Path | None) -> Resealed:
    """Seal every signing key with the first key of control's master key file; the file has the former ones too.

    Needs the settings of control, its bus connection among them. Safe to repeat, and while everything runs.

    Errors: `SettingsFault`, `SealBroken`, `BusUnavailable`.
    """
    master_key = read_master_key(load(ControlSettings, "control", environ, file).master_key_file)
    bus = await connect(load(BusSettings, "bus", environ, file), "control")
    try:
        return await _all(bus, master_key)
    finally:
        await bus.close()


async def _all(bus: Bus, master_key: MasterKey) -> Resealed:
    bucket: Bucket[DkimKey] = Bucket(bus, "keys", DkimKey)
    anew, already, broken = 0, 0, []
    for entry in await bucket.entries():
        try:
            if await _one(bucket, entry, master_key):
                anew += 1
            else:
                already += 1
        except SealBroken:
            broken.append(entry.key)
    return Resealed(anew=anew, already=already, broken=tuple(broken))


async def _one(bucket: Bucket[DkimKey], entry: Entry[DkimKey], master_key: MasterKey) -> bool:
    """Seal one key anew; False if it was already, or is gone."""
    present: Entry[DkimKey] | None = entry
    for _ in range(TRIES):
        if present is None:
            return False
        try:
            unseal(bytes(master_key), present.record.sealed, present.key)
        except SealBroken:
            pass
        else:
            return False
        private = unseal(master_key, present.record.sealed, present.key)
        record = msgspec.structs.replace(present.record, sealed=seal(master_key, private, present.key))
        try:
            await bucket.update(present.key, record, present.revision)
        except WrongSequence:  # a rotation of this key came in between
            present = await bucket.get(entry.key)
            continue
        return True
    raise SealBroken(f"{entry.key} is changed without end")
