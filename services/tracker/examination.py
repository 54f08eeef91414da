"""What the tracker can say of itself to the doctor: messages that are nowhere, room on its disk."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

from services.tracker.auditor import Auditor
from services.tracker.settings import TrackerSettings
from shared.bus.roll_call import Examine
from shared.contract.examination import CallRoll, Finding

SQLITE = "sqlite:///"
LEAST_FREE = 0.1
"""Share of the disk below which it is called nearly full."""
SHOWN = 3


def examination(auditor: Auditor, settings: TrackerSettings) -> Examine:
    """Return what examines this process."""

    async def examine(_call: CallRoll) -> Sequence[Finding]:
        findings = [_missing(auditor.missing)]
        if settings.database_url.startswith(SQLITE):
            findings.append(await asyncio.to_thread(_disk, settings.database_url.removeprefix(SQLITE)))
        return findings

    return examine


def _missing(queue_ids: Sequence[str]) -> Finding:
    if not queue_ids:
        return Finding(check="audit", state="ok", sentence="no accepted message is missing")
    shown = ", ".join(queue_ids[:SHOWN])
    return Finding(
        check="audit",
        state="bad",
        sentence=f"{len(queue_ids)} accepted messages are neither finished nor in the queue: {shown}",
        advice="see `postlane why QUEUE_ID` and keep the logs and the store of the bus",
    )


def _disk(file: str) -> Finding:
    directory = Path(file).absolute().parent
    try:
        usage = shutil.disk_usage(directory)
    except OSError as fault:
        return Finding(check="disk", state="bad", sentence=f"{directory} cannot be looked at: {fault.strerror}")
    free = f"{usage.free / 2**30:.1f} GiB of the disk of the database are free"
    if usage.free < LEAST_FREE * usage.total:
        return Finding(check="disk", state="warning", sentence=free, advice="make room, or keep messages less long")
    return Finding(check="disk", state="ok", sentence=free)
