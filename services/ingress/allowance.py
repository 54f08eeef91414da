"""How many events about strangers are published, per address and minute: what they do must not fill the bus."""

from collections import OrderedDict

from shared.runtime import clock

ADDRESSES_COUNTED = 10_000


class Allowance:
    """Counts per address, for the present minute."""

    def __init__(self, per_minute: int) -> None:
        """Allow so many events of one address in a minute."""
        self._per_minute = per_minute
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Count one more event of an address; False if it has had its share."""
        minute = clock.now_ms() // 60_000
        started, count = self._counts.get(address, (minute, 0))
        count = count + 1 if started == minute else 1
        self._counts[address] = (minute, count)
        self._counts.move_to_end(address)
        if len(self._counts) > ADDRESSES_COUNTED:
            self._counts.popitem(last=False)
        return count <= self._per_minute
