"""Short-lived tokens in the form of a JWT (RFC 7519), signed with HMAC-SHA-256 (RFC 7518 §3.2)."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

import msgspec

_HEADER = {"alg": "HS256", "typ": "JWT"}


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says: which API key it was made from, and for how long it is good. Times in epoch seconds."""

    iss: str
    sub: str
    """ID of the API key; the token dies with it."""
    iat: int
    exp: int


def _part(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _octets(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _signature(key: bytes, signed: str) -> bytes:
    return hmac.new(key, signed.encode(), hashlib.sha256).digest()


def signing_key(master_key: bytes, purpose: bytes = b"postlane.control.tokens.v1") -> bytes:
    """Derive the key that signs tokens of a purpose, so that the master key itself signs nothing."""
    return hmac.new(master_key, purpose, hashlib.sha256).digest()


def sign(claims: Claims, key: bytes) -> str:
    """Return the token that says `claims`."""
    signed = f"{_part(msgspec.json.encode(_HEADER))}.{_part(msgspec.json.encode(claims))}"
    return f"{signed}.{_part(_signature(key, signed))}"


def read_by_any(token: str, keys: Iterable[bytes], now_seconds: int, issuer: str) -> Claims | None:
    """Return what a token says that was signed with one of the keys; see `read`."""
    found = (read(token, key, now_seconds, issuer) for key in keys)
    return next((claims for claims in found if claims is not None), None)


def read(token: str, key: bytes, now_seconds: int, issuer: str) -> Claims | None:
    """Return what a token says, or None if we did not sign it or its time is over."""
    if not token.isascii() or token.count(".") != 2:
        return None
    signed, _, signature = token.rpartition(".")
    try:
        if not hmac.compare_digest(_octets(signature), _signature(key, signed)):
            return None
        header, _, body = signed.partition(".")
        if msgspec.json.decode(_octets(header)) != _HEADER:
            return None
        claims = msgspec.json.decode(_octets(body), type=Claims)
    except (binascii.Error, msgspec.MsgspecError):
        return None
    return claims if claims.iss == issuer and claims.iat <= now_seconds + 60 and now_seconds < claims.exp else None
