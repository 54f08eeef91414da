"""The mailbox and the ledger of what the exchanger accepted, and the counts of scripted deferrals: all on disk.

A message is one file in the Maildir, octet for octet as it came. The ledger (`deliveries.jsonl`) tells what the file
cannot: envelope, TLS, client. A message counts as accepted when its ledger line is on disk.
"""

import itertools
import os
import threading
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from shared.contract.errors import UNREADABLE

MAILDIR = "Maildir"
LEDGER = "deliveries.jsonl"
DEFERRALS = "deferrals.jsonl"


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted transaction: a line of the ledger."""

    at: datetime
    file: str
    """Name of the message in the Maildir's `new`."""
    sender: str
    recipients: tuple[str, ...]
    size: int
    sha256: str
    message_id: str
    client: str
    helo: str
    tls: str
    """TLS version and cipher, "" in clear."""
    parameters: tuple[str, ...] = ()
    """The parameters of MAIL, then of each RCPT, as given."""


class _Deferral(msgspec.Struct, frozen=True):
    key: str


class Mailbox:
    """The Maildir with its ledger. Methods block on the disk: call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._maildir = directory / MAILDIR
        for part in ("tmp", "new", "cur"):
            (self._maildir / part).mkdir(parents=True, exist_ok=True)
        self._ledger = _Journal(directory / LEDGER)
        self._numbers = itertools.count(1)

    def keep(self, content: bytes, delivery: Delivery) -> Delivery:
        """Store a message and its ledger line durably; return the line as written, with file, size and hash."""
        name = f"{delivery.at.timestamp():.6f}.P{os.getpid()}Q{next(self._numbers)}.sandbox"
        fresh = self._maildir / "tmp" / name
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._maildir / "new" / name)
        _sync_directory(self._maildir / "new")
        line = msgspec.structs.replace(delivery, file=name, size=len(content), sha256=sha256(content).hexdigest())
        self._ledger.append(msgspec.json.encode(line))
        return line

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


class Deferrals:
    """How often each scripted deferral has been given; a restart goes on counting. Methods block on the disk."""

    def __init__(self, directory: Path) -> None:
        path = directory / DEFERRALS
        self._counts: dict[str, int] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    key = msgspec.json.decode(line, type=_Deferral).key
                except UNREADABLE:
                    continue  # the last line of a process that was killed while writing it
                self._counts[key] = self._counts.get(key, 0) + 1
        self._journal = _Journal(path)
        self._lock = threading.Lock()

    def due(self, key: str, times: int) -> bool:
        """Return whether to defer once more, and count it if so."""
        with self._lock:
            if self._counts.get(key, 0) >= times:
                return False
            self._counts[key] = self._counts.get(key, 0) + 1
            self._journal.append(msgspec.json.encode(_Deferral(key)))
            return True

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()


class _Journal:
    """Appends lines, each on disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._lock = threading.Lock()
        if self._file.tell() and not path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")  # end the line a killed process left unfinished

    def append(self, line: bytes) -> None:
        with self._lock:
            self._file.write(line + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def deliveries(directory: Path) -> list[Delivery]:
    """Return the ledger, oldest first; a line left unfinished by a crash is not an acceptance."""
    path = directory / LEDGER
    found: list[Delivery] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(msgspec.json.decode(line, type=Delivery))
        except UNREADABLE:
            continue
    return found


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
