"""How many events about a stranger or a tenant are published in a minute: what they do must not fill the bus."""

from collections import OrderedDict

from shared.runtime import clock

KEYS_COUNTED = 10_000


class Allowance:
    """Counts per key, an address or an instance, for the present minute."""

    def __init__(self, per_minute: int) -> None:
        """Allow so many events of one key in a minute."""
        self._per_minute = per_minute
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def take(self, key: str) -> bool:
        """Count one more event of a key; False if it has had its share."""
        minute = clock.now_ms() // 60_000
        started, count = self._counts.get(key, (minute, 0))
        count = count + 1 if started == minute else 1
        self._counts[key] = (minute, count)
        self._counts.move_to_end(key)
        if len(self._counts) > KEYS_COUNTED:
            self._counts.popitem(last=False)
        return count <= self._per_minute
