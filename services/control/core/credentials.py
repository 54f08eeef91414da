"""SMTP credentials and API keys, made from randomness that comes in as an argument."""

import hashlib
import re
import string

import msgspec

USERNAME_RANDOM_BYTES = 24
PASSWORD_RANDOM_BYTES = 40
PASSWORD_LENGTH = 32
KEY_ID_RANDOM_BYTES = 12
KEY_SECRET_RANDOM_BYTES = 40
"""Octets of randomness: at least 64 bits more than the result holds, so that every character is equally likely."""

_LOWER = string.digits + string.ascii_lowercase
_LETTERS = string.digits + string.ascii_letters
_USERNAME = re.compile(r"[a-z0-9]{18}\d{2}")
_API_KEY = re.compile(r"pl_([a-z0-9]{12})_([A-Za-z0-9]{40})")


def _drawn(randomness: bytes, alphabet: str, length: int) -> str:
    number = int.from_bytes(randomness, "big")
    drawn = []
    for _ in range(length):
        number, digit = divmod(number, len(alphabet))
        drawn.append(alphabet[digit])
    return "".join(drawn)


def new_username(randomness: bytes) -> str:
    """Return a username of 18 letters or digits and two digits, as IBM's are."""
    return _drawn(randomness[:-4], _LOWER, 18) + _drawn(randomness[-4:], string.digits, 2)


def is_username(text: str) -> bool:
    """Whether a text has the form of our usernames."""
    return _USERNAME.fullmatch(text) is not None


def new_password(randomness: bytes) -> str:
    """Return a password of 32 letters and digits (190 bits): safe in any shell, URL and configuration file."""
    return _drawn(randomness, _LETTERS, PASSWORD_LENGTH)


class PresentedKey(msgspec.Struct, frozen=True):
    """An API key as a client shows it: `pl_<id>_<secret>`."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """The whole key, shown once."""
        return f"pl_{self.id}_{self.secret}"

    @property
    def hash(self) -> str:
        """What is kept of it: the secret has 238 bits, so a plain SHA-256 cannot be searched."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def new_api_key(randomness: bytes) -> PresentedKey:
    """Return a new API key."""
    head, tail = randomness[:KEY_ID_RANDOM_BYTES], randomness[KEY_ID_RANDOM_BYTES:]
    return PresentedKey(_drawn(head, _LOWER, 12), _drawn(tail, _LETTERS, 40))


def parse_api_key(text: str) -> PresentedKey | None:
    """Read an API key, or return None if it cannot be one."""
    match = _API_KEY.fullmatch(text)
    return PresentedKey(match[1], match[2]) if match else None
