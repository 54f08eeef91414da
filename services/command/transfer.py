"""`postlane export` and `postlane import`: the whole directory as one file, on the host itself.

Control's own module does it; `services/__main__.py`, which alone sees all rooms, hands it in.
"""

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from shared.contract.errors import PostlaneError


class CannotTransfer(PostlaneError):
    """The file cannot be written or read, or holds what cannot be imported; the text says why."""


def export(transfer: ModuleType, environ: Mapping[str, str], settings: Path | None, target: Path) -> str:
    """Write the directory to a file only its owner can read; return a sentence.

    Errors: `CannotTransfer`, `SettingsFault`, `BusUnavailable`.
    """
    octets: bytes = asyncio.run(transfer.export(environ, settings))
    try:
        # A file of our own making: nobody can have prepared it, or see into it.
        number, draft = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)
        with os.fdopen(number, "wb") as out:
            out.write(octets)
        Path(draft).replace(target)
    except OSError as fault:
        raise CannotTransfer(f"cannot write {target}: {fault.strerror}") from fault
    count = octets.count(b"\n") - 2
    return f"{count} records written to {target}; it can be imported with the same master key only"


def import_(
    transfer: ModuleType, environ: Mapping[str, str], settings: Path | None, source: Path, replace: bool, dry_run: bool
) -> tuple[str, bool]:
    """Import a file; return a sentence, and whether nothing stood against it.

    Errors: `CannotTransfer`, `SettingsFault`, `SealBroken`, `BusUnavailable`.
    """
    try:
        octets = source.read_bytes()
    except OSError as fault:
        raise CannotTransfer(f"cannot read {source}: {fault.strerror}") from fault
    try:
        done = asyncio.run(transfer.import_(environ, settings, octets, replace, dry_run))
    except transfer.NotAnArchive as fault:
        raise CannotTransfer(f"{source} cannot be imported: {fault}") from fault
    if done.conflicts:
        shown = "".join(f"\n  - {key}" for key in done.conflicts[:20])
        rest = f"\n  … and {len(done.conflicts) - 20} more" if len(done.conflicts) > 20 else ""
        sentence = f"nothing was written: {len(done.conflicts)} records are here already with other contents"
        return f"{sentence} (--replace takes those of the file):{shown}{rest}", False
    verb = "would be " if dry_run else ""
    return f"{done.created} records {verb}created, {done.replaced} {verb}replaced, {done.unchanged} as they are", True
