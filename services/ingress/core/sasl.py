"""The octets of AUTH PLAIN (RFC 4616) and AUTH LOGIN, strictly decoded."""

import binascii
import re
from base64 import b64decode

import msgspec

CREDENTIAL_LIMIT = 1024
"""Octets of a username or a password that are looked at."""
_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 §3.1


class Attempt(msgspec.Struct, frozen=True):
    """Username and password as claimed; `usable` is false when no account can ever match."""

    username: str
    password: str
    usable: bool

    def __repr__(self) -> str:
        """Return a form without the password, for logs and tracebacks."""
        return f"Attempt({self.username!r})"


def mechanism_named(word: str) -> str:
    """Return a mechanism for the record; what is no name of one may be a password sent in its place."""
    return f"the mechanism {word}" if _MECHANISM.fullmatch(word) else "what stands in the place of a mechanism"


def decode(line: bytes) -> bytes | None:
    """Decode one base64 line of an exchange; `=` is the empty response (RFC 4954 §4). None: not base64."""
    if line == b"=":
        return b""
    try:
        decoded = b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None
    # The library passes over padding nobody needs; what is not base64 must be refused (RFC 4954 §4).
    return decoded if len(line) == (len(decoded) + 2) // 3 * 4 else None


def plain(message: bytes) -> Attempt:
    """Read the message of PLAIN: authzid NUL authcid NUL password; acting for another identity is not offered."""
    parts = message.split(b"\0")
    if len(parts) != 3:
        return Attempt("", "", False)
    authzid, authcid, password = parts
    attempt = login(authcid, password)
    return attempt if authzid in (b"", authcid) else Attempt(attempt.username, attempt.password, False)


def login(username: bytes, password: bytes) -> Attempt:
    """Build an attempt from the two answers of LOGIN."""
    try:
        name, secret = username.decode(), password.decode()
    except UnicodeDecodeError:
        return Attempt(username.decode("utf-8", "replace"), "", False)
    usable = bool(name and secret) and "\0" not in name + secret
    return Attempt(name, secret, usable and max(len(username), len(password)) <= CREDENTIAL_LIMIT)
