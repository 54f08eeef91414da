"""Reading the audit log from its end, a page at a time, however long it has grown.

A stream can only be read forwards, so a page is found in windows that begin ever further back: wider while they hold
little of what is asked for, narrower where they hold more than is taken into memory at once.
"""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from services.control.directory import AUDIT
from shared.bus.client import Bus
from shared.bus.stored import Stored
from shared.contract import subjects

FIRST_SPAN = 1_000
"""Sequences of the first window."""
WINDOW_RECORDS = 2_000
"""Records of a window held in memory; a window of so few sequences is never too dense."""


class Page(NamedTuple):
    """Records, newest first, as they are stored."""

    records: tuple[bytes, ...]
    older: int | None
    """Give it as `before` to read on; None: the log has nothing older."""


class AuditLog:
    """The stream of what was changed. `examined` bounds the records looked at for one page."""

    def __init__(self, bus: Bus, examined: int) -> None:
        self._bus = bus
        self._examined = examined

    async def page(self, instance: str, wanted: Callable[[bytes], bool], limit: int, before: int | None) -> Page:
        """Return the newest records of an instance, "" of all, that are older than `before`.

        Fewer than `limit`, although there are older ones, if `wanted` turned very many away.

        Errors: `BusUnavailable`.
        """
        subject = subjects.audit(instance) if instance else "postlane.audit.*"
        state = await self._bus.stream_state(AUDIT)
        first, end = max(state.first_sequence, 1), state.last_sequence + 1
        end = end if before is None else min(end, before)
        found: list[bytes] = []
        span, examined = FIRST_SPAN, 0
        while end > first and len(found) < limit and examined < self._examined:
            start = max(end - span, first)
            window = await self._window(subject, start, end)
            examined += len(window)
            if len(window) > WINDOW_RECORDS:
                span = max(span // 4, WINDOW_RECORDS)
                continue
            end = start
            for stored in reversed(window):
                if wanted(stored.payload):
                    found.append(stored.payload)
                if len(found) == limit:
                    end = stored.sequence
                    break
            span *= 2
        return Page(tuple(found), end if end > first else None)

    async def _window(self, subject: str, start: int, end: int) -> list[Stored]:
        """Return what lies from `start` to before `end`, or one more than `WINDOW_RECORDS` if that is too much."""
        found: list[Stored] = []
        async with contextlib.aclosing(self._bus.scan(AUDIT, subject, start)) as scan:
            async for stored in scan:
                if stored.sequence >= end:
                    break
                found.append(stored)
                if len(found) > WINDOW_RECORDS:
                    break
        return found
