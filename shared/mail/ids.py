"""Identifiers: queue IDs, refusal references and the opaque IDs of the directory.

A queue ID names an accepted message for life. It is 30 characters of Crockford base32 in upper case: ten of
time (milliseconds since 1970, so IDs sort by age) and twenty of chance (100 bits, so they cannot be guessed).
"""

import re
from typing import NewType

QueueId = NewType("QueueId", str)
InstanceId = NewType("InstanceId", str)
ConfigurationId = NewType("ConfigurationId", str)
UserId = NewType("UserId", str)

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TIME_LENGTH = 10
RANDOM_LENGTH = 20
RANDOM_BYTES = 13
"""Octets of randomness a queue ID consumes (104 bits, of which 100 are used)."""

_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)
_QUEUE_ID = re.compile(rf"[{ALPHABET}]{{{TIME_LENGTH + RANDOM_LENGTH}}}")
_REFERENCE = re.compile(rf"R-[{ALPHABET}]{{10}}")


def crockford(number: int, length: int) -> str:
    """Write a non-negative number in Crockford base32, left-padded, keeping the lowest `length` digits."""
    digits = []
    for _ in range((length + 1) // 2):
        digits.append(_PAIRS[number & 1023])
        number >>= 10
    digits.reverse()
    return "".join(digits)[-length:]


def new_queue_id(now_ms: int, randomness: bytes) -> QueueId:
    """Mint a queue ID from the time in milliseconds and `RANDOM_BYTES` octets of randomness."""
    if len(randomness) < RANDOM_BYTES:
        raise ValueError(f"a queue ID needs {RANDOM_BYTES} octets of randomness, got {len(randomness)}")
    return QueueId(crockford(now_ms, TIME_LENGTH) + crockford(int.from_bytes(randomness, "big"), RANDOM_LENGTH))


def parse_queue_id(text: str) -> QueueId | None:
    """Return the queue ID a person typed, in any case and with a recipient suffix cut off, or None."""
    candidate = text.strip().upper().partition(".")[0]
    return QueueId(candidate) if _QUEUE_ID.fullmatch(candidate) else None


def queue_id_time_ms(queue_id: QueueId) -> int:
    """Return the time part of a queue ID, in milliseconds since 1970."""
    value = 0
    for digit in queue_id[:TIME_LENGTH]:
        value = value * 32 + ALPHABET.index(digit)
    return value


def new_reference(randomness: bytes) -> str:
    """Mint the reference of a refusal, `R-` and ten characters, from 7 octets of randomness."""
    return "R-" + crockford(int.from_bytes(randomness, "big"), 10)


def parse_reference(text: str) -> str | None:
    """Return the refusal reference a person typed, in any case, or None."""
    candidate = text.strip().upper()
    return candidate if _REFERENCE.fullmatch(candidate) else None
