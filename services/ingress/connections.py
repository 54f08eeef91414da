"""How many connections there are: in all, per network, per address (in IPv6 per /64), and of strangers per address."""

from collections import Counter

from services.ingress.core.access import IpAddress, network_of, source_of
from services.ingress.settings import IngressSettings


class Connections:
    """Counts of open connections. Whoever entered leaves exactly once."""

    def __init__(self, settings: IngressSettings) -> None:
        """Start with none."""
        self._settings = settings
        self._addresses: Counter[str] = Counter()
        self._networks: Counter[str] = Counter()
        self._strangers: Counter[str] = Counter()
        self.total = 0

    def enter(self, address: IpAddress) -> str:
        """Count a new connection, from a stranger so far; return "" or the limit it would break."""
        text, network = source_of(address), network_of(address)
        limits = (
            (self.total, self._settings.connections, "connections in all"),
            (self._addresses[text], self._settings.connections_per_address, f"connections from {text}"),
            (self._networks[network], self._settings.connections_per_network, f"connections from {network}"),
            (self._strangers[text], self._settings.strangers_per_address, f"connections without login from {text}"),
        )
        for present, limit, what in limits:
            if present >= limit:
                return f"{present} {what}, the limit is {limit}"
        self.total += 1
        self._addresses[text] += 1
        self._networks[network] += 1
        self._strangers[text] += 1
        return ""

    def recognise(self, address: IpAddress) -> None:
        """Note that a connection has logged in."""
        _less(self._strangers, source_of(address))

    def leave(self, address: IpAddress, stranger: bool) -> None:
        """Note the end of a connection that had entered."""
        self.total -= 1
        _less(self._addresses, source_of(address))
        _less(self._networks, network_of(address))
        if stranger:
            _less(self._strangers, source_of(address))


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
