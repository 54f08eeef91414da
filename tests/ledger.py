"""A ledger: what clients were answered against what arrived. Nothing accepted may be missing."""

import smtplib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.system import System, queue_id_of


@dataclass
class Ledger:
    """What a run of submissions was answered, by marker."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Marker to queue ID."""
    refused: dict[str, str] = field(default_factory=dict)
    """Marker to reply, 4xx and 5xx."""
    unknown: set[str] = field(default_factory=set)
    """Markers whose connection broke before the reply: they may arrive or not."""

    def missing(self, arrived: Iterable[str]) -> set[str]:
        """Return accepted markers that did not arrive."""
        return self.accepted.keys() - set(arrived)

    def ghosts(self, arrived: Iterable[str]) -> set[str]:
        """Return markers that were refused and yet arrived."""
        return self.refused.keys() & set(arrived)

    def duplicates(self, arrived: Iterable[str]) -> dict[str, int]:
        """Return markers that arrived more than once."""
        return {marker: count for marker, count in Counter(arrived).items() if count > 1}


def subjects_of(messages: Iterable[bytes]) -> list[str]:
    """Return the markers of messages: their subjects."""
    found = []
    for message in messages:
        head = message.partition(b"\r\n\r\n")[0]
        found += [line[9:].decode() for line in head.split(b"\r\n") if line.lower().startswith(b"subject: ")]
    return found


class Submitters:
    """Clients side by side that send a number of messages, reconnect when cut off, and keep the ledger."""

    def __init__(self, system: System, name: str, count: int, clients: int, recipient: Callable[[int], str]) -> None:
        self._system = system
        self._name = name
        self._count = count
        self._recipient = recipient
        self._lock = threading.Lock()
        self._next = 0
        self.ledger = Ledger()
        self.sent = 0
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(clients)]

    def start(self) -> None:
        """Begin sending."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait until all is sent."""
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive(), "a client did not finish"

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= self._count:
                return None
            self._next += 1
            return self._next

    def _client(self) -> None:
        session: smtplib.SMTP | None = None
        while (number := self._take()) is not None:
            marker = f"{self._name}-{number}"
            while True:  # a client tries again until it has an answer about this message
                try:
                    if session is None:
                        session = self._system.login()
                    code, text = self._system.submit(session, self._recipient(number), marker)
                except smtplib.SMTPServerDisconnected:
                    session = None
                    with self._lock:
                        self.ledger.unknown.add(marker)
                    continue
                except (OSError, smtplib.SMTPException):
                    session = None
                    continue
                break
            with self._lock:
                self.sent += 1
                if code == 250:
                    self.ledger.accepted[marker] = queue_id_of(text)
                else:
                    self.ledger.refused[marker] = f"{code} {text}"
            if code == 421:
                session = None
        if session is not None:
            session.close()
