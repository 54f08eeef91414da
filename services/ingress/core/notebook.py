"""What is written down now and then: the newest note of each key, each key at most once in an interval; bounded."""

from collections import OrderedDict
from typing import Generic, TypeVar

R = TypeVar("R")


class Notebook(Generic[R]):
    """Notes that wait to be written. The owner passes the time in seconds, of any origin."""

    def __init__(self, interval_seconds: float, keys: int) -> None:
        """Start empty; of more than `keys` keys the ones noted longest ago are let go."""
        self._interval = interval_seconds
        self._keys = keys
        self._waiting: OrderedDict[str, R] = OrderedDict()
        self._written: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Return the notes that wait."""
        return len(self._waiting)

    def note(self, key: str, record: R) -> None:
        """Take the newest note of a key."""
        self._waiting[key] = record
        self._waiting.move_to_end(key)
        if len(self._waiting) > self._keys:
            self._waiting.popitem(last=False)

    def due(self, at: float, everything: bool = False) -> list[tuple[str, R]]:
        """Return what may be written now, or everything, oldest first; it counts as written from now on."""
        ready = [
            (key, record)
            for key, record in self._waiting.items()
            if everything or at - self._written.get(key, at - self._interval) >= self._interval
        ]
        for key, _ in ready:
            del self._waiting[key]
            self._written[key] = at
            self._written.move_to_end(key)
        while len(self._written) > self._keys:
            self._written.popitem(last=False)
        return ready

    def failed(self, key: str, record: R) -> None:
        """Take back a note that could not be written, unless there is a newer one."""
        self._written.pop(key, None)
        if key not in self._waiting:
            self.note(key, record)
