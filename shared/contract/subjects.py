"""The one place that builds and parses subjects and keys of the bus.

A token is one of ours (a queue ID, a GUID, a word of the contract) or has been encoded by `token`, so nothing a
client sends can add a dot, a wildcard, a space or an @ to a subject.
"""

import re
from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

from shared.mail.address import Address, parse_address

_TOKEN = re.compile(r"[A-Za-z0-9_=/-]+")
_SAFE = re.compile(r"[A-Za-z0-9-]")


def checked(text: str) -> str:
    """Return a token of ours, or raise `ValueError`: a fault of the caller, never of a client."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"not a token for a subject: {text!r}")
    return text


def token(text: str) -> str:
    """Encode any text as one token, reversibly: letters, digits and - stay, every other octet becomes _XX."""
    return "".join(chr(b) if _SAFE.match(chr(b)) else f"_{b:02X}" for b in text.encode()) or "_"


def slot_of(configuration: str, slots: int, *, crowded: bool = False) -> int:
    """Return the slot of a configuration: its mail shares a consumer with few others.

    The last quarter of the slots is for mail of configurations that send more than others should wait behind.
    """
    calm, number = calm_slots(slots), crc32(configuration.encode())
    return calm + number % (slots - calm) if crowded and calm < slots else number % calm


def calm_slots(slots: int) -> int:
    """Return how many of the slots, the first ones, are not for crowds."""
    return slots - slots // 4 if slots > 3 else max(1, slots - 1)


def shard_of(queue_id: str, shards: int) -> int:
    """Return the shard of a queue ID: which of the mail streams holds it."""
    return crc32(queue_id.encode()) % shards


def mail_stream(shard: int) -> str:
    """Return the name of the stream of fresh mail and quarantine."""
    return f"MAIL_{shard}"


def retry_stream(shard: int) -> str:
    """Return the name of the stream of deferred, held and due messages."""
    return f"RETRY_{shard}"


class Place(NamedTuple):
    """Where a message is on the mail path; each of its subjects is made of these tokens."""

    shard: int
    lane: str
    slot: int
    configuration: str
    queue_id: str

    @property
    def mail_stream(self) -> str:
        """The stream of `ready` and `quarantine`."""
        return mail_stream(self.shard)

    @property
    def retry_stream(self) -> str:
        """The stream of `later`, `held` and `due`."""
        return retry_stream(self.shard)

    @property
    def _tail(self) -> str:
        return f"{checked(self.lane)}.{self.slot}.{checked(self.configuration)}.{checked(self.queue_id)}"

    @property
    def ready(self) -> str:
        """Fresh mail, written by ingress."""
        return f"postlane.mail.{self.shard}.{self._tail}"

    @property
    def later(self) -> str:
        """A deferred message, scheduled."""
        return f"postlane.retry.{self.shard}.later.{self._tail}"

    @property
    def held(self) -> str:
        """A held message, scheduled at its expiry."""
        return f"postlane.retry.{self.shard}.held.{self._tail}"

    @property
    def due(self) -> str:
        """A message whose schedule has fired."""
        return f"postlane.retry.{self.shard}.due.{self._tail}"

    @property
    def quarantine(self) -> str:
        """A message nobody could read."""
        return f"postlane.mail.{self.shard}.quarantine.{checked(self.queue_id)}"


def parse_place(subject: str) -> Place | None:
    """Return the place a ready, later, held or due subject names, or None."""
    parts = subject.split(".")
    if len(parts) == 7 and parts[:2] == ["postlane", "mail"] and parts[3] != "quarantine":
        shard, (lane, slot, configuration, queue_id) = parts[2], parts[3:]
    elif len(parts) == 8 and parts[:2] == ["postlane", "retry"]:
        shard, (lane, slot, configuration, queue_id) = parts[2], parts[4:]
    else:
        return None
    if not (shard.isdigit() and slot.isdigit()):
        return None
    return Place(int(shard), lane, int(slot), configuration, queue_id)


def pattern(shard: int, where: str = "*", configuration: str = "*", queue_id: str = "*") -> tuple[str, str]:
    """Return the stream of places and the pattern of their subjects: `where` is ready, later, held, due or quarantine.

    Without `where`: later, held and due. In quarantine only the queue ID is known.
    """
    of_whom = ".".join(part if part == "*" else checked(part) for part in (configuration, queue_id))
    if where == "quarantine":
        return mail_stream(shard), f"postlane.mail.{shard}.quarantine.{of_whom.rpartition('.')[2]}"
    if where == "ready":
        # What is in quarantine has fewer tokens and does not fit.
        return mail_stream(shard), f"postlane.mail.{shard}.*.*.{of_whom}"
    return retry_stream(shard), f"postlane.retry.{shard}.{where}.*.*.{of_whom}"


def status(instance: str, configuration: str, queue_id: str) -> str:
    """Subject of a message's status records."""
    return f"postlane.status.{checked(instance)}.{checked(configuration)}.{checked(queue_id)}"


def accepted(instance: str, configuration: str, queue_id: str) -> str:
    """Subject of a message's acceptance."""
    return f"postlane.accepted.{checked(instance)}.{checked(configuration)}.{checked(queue_id)}"


ACCEPTANCES = "postlane.acceptances"
"""Subject of pages of acceptances, of all tenants."""


def refused(instance: str, configuration: str) -> str:
    """Subject of a refusal; what is not known is `-`."""
    return f"postlane.refused.{checked(instance or '-')}.{checked(configuration or '-')}"


def client(instance: str) -> str:
    """Subject of a client that logged in, or left before it did; `-` if it is not known whose it is."""
    return f"postlane.client.{checked(instance or '-')}"


def about_clients(instance: str, configuration: str) -> tuple[str, ...]:
    """Subjects of all that is said about the clients of a configuration; with "" for both, of unknown ones."""
    if not instance:
        return client(""), refused("", "")
    return (
        client(instance),
        f"postlane.refused.{checked(instance)}.*",
        f"postlane.accepted.{checked(instance)}.{checked(configuration)}.*",
    )


def suspension(configuration: str) -> str:
    """Subject of the broadcast of a changed standing."""
    return f"postlane.suspension.{checked(configuration)}"


def suppression(configuration: str, address: str) -> str:
    """Return the key of an address on a suppression list: hashed, with its domain in comparable form."""
    parsed = parse_address(address)
    same = f"{parsed.local}@{parsed.domain}" if isinstance(parsed, Address) else address
    return f"{configuration}.{sha256(same.encode()).hexdigest()[:40]}"


def changed(bucket: str) -> str:
    """Core subject on which a bucket's writer repeats each write, with its revision."""
    return f"postlane.changed.{checked(bucket)}"


def audit(instance: str) -> str:
    """Subject of an audit record."""
    return f"postlane.audit.{checked(instance or '-')}"


def notice(desk: str, instance: str, configuration: str) -> str:
    """Subject of a request to write to a tenant's contacts; `desk` is `standing` (verifier) or `desk` (control)."""
    return f"postlane.notice.{checked(desk)}.{checked(instance or '-')}.{checked(configuration or '-')}"


def captured(instance: str, configuration: str, queue_id: str) -> str:
    """Subject of a staged message that was kept."""
    return f"postlane.captured.{checked(instance)}.{checked(configuration)}.{checked(queue_id)}"


SYNC_PROOF = "postlane.sys.jsz"
"""Imported from the system account: every server's JetStream configuration."""
