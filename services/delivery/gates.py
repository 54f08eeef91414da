"""The live snapshot of directory and standing, and the gate of each configuration made from it."""

from collections.abc import Callable

from services.delivery.core.gate import UNREAD, Hold, gate
from shared.bus.client import Bus
from shared.bus.replica import Replica
from shared.contract.records import Authorization, Configuration, DirectoryRecord, Suspension
from shared.contract.siblings import Withdrawal
from shared.contract.standing import Standing


class Gates:
    """Follows the buckets `directory`, `standing` and `withdrawn`; tells whose gate may have moved."""

    def __init__(self, bus: Bus) -> None:
        self._listeners: list[Callable[[str], None]] = []
        self.directory: Replica[DirectoryRecord] = Replica(bus, "directory", DirectoryRecord, self._directory_moved)
        self.withdrawn: Replica[Withdrawal] = Replica(bus, "withdrawn", Withdrawal)
        self.standing: Replica[Standing] = Replica(bus, "standing", Standing, self._standing_moved)

    def on_move(self, listener: Callable[[str], None]) -> None:
        """Call back with the ID of a configuration whose gate may have opened or closed."""
        self._listeners.append(listener)

    def configuration(self, configuration: str) -> Configuration | None:
        """Return a configuration, None if it does not exist (any more)."""
        record = self.directory.get(f"configuration.{configuration}")
        return record if isinstance(record, Configuration) else None

    def hold(self, configuration: str) -> Hold | None:
        """Return why the mail of a configuration is held right now, None if it may go."""
        authorization = self.directory.get(f"authorization.{configuration}")
        suspension = self.directory.get(f"suspension.{configuration}")
        for kind in ("configuration", "suspension"):  # without the others it is held anyway
            key = f"{kind}.{configuration}"
            if key in self.directory.unreadable and self.directory.get(key) is None:
                return UNREAD
        return gate(
            self.configuration(configuration),
            authorization if isinstance(authorization, Authorization) else None,
            suspension if isinstance(suspension, Suspension) else None,
            self.standing.get(configuration),
        )

    def _directory_moved(self, key: str, _record: DirectoryRecord | None) -> None:
        kind, _, configuration = key.partition(".")
        if kind in ("configuration", "authorization", "suspension"):
            self._moved(configuration)

    def _standing_moved(self, key: str, _record: Standing | None) -> None:
        self._moved(key)

    def _moved(self, configuration: str) -> None:
        for listener in self._listeners:
            listener(configuration)
