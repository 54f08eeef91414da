"""What is due when: a heap of configurations, in which each has at most one live entry."""

import heapq
from datetime import datetime


class Agenda:
    """Times by configuration; costs O(log n) per change, so tens of thousands are cheap."""

    def __init__(self) -> None:
        self._at: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def put(self, configuration: str, at: datetime) -> None:
        """Note a configuration for a time, instead of any earlier note."""
        self._at[configuration] = at
        heapq.heappush(self._heap, (at, configuration))
        if len(self._heap) > 4 * len(self._at) + 64:  # stale entries outnumber the live ones
            self._heap = [(when, name) for name, when in self._at.items()]
            heapq.heapify(self._heap)

    def remove(self, configuration: str) -> None:
        """Forget a configuration; it need not be there."""
        self._at.pop(configuration, None)

    def take(self, now: datetime, most: int) -> list[str]:
        """Remove and return up to `most` configurations that are due, the longest due first."""
        due: list[str] = []
        while self._heap and len(due) < most:
            at, configuration = self._heap[0]
            if self._at.get(configuration) != at:
                heapq.heappop(self._heap)
            elif at > now:
                break
            else:
                heapq.heappop(self._heap)
                del self._at[configuration]
                due.append(configuration)
        return due

    def next_at(self) -> datetime | None:
        """Return when the next one is due, None if there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._at)
