"""DKIM signing (RFC 6376, RFC 8301, RFC 8463): rsa-sha256 or ed25519-sha256, relaxed/relaxed, over `cryptography`.

Pure: the key is handed in ready to use, the time is an argument. The octets signed are the octets that go out; the
signature field is put in front of them. `l=` is never used, so nothing can be appended to a signed message.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

OVERSIGNED: tuple[bytes, ...] = (
    b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding", b"content-disposition", b"content-id",
    b"list-id", b"list-unsubscribe", b"list-unsubscribe-post",
)  # fmt: skip
"""Fields named in h= once more often than they occur, so that none can be added later (RFC 6376 §8.15)."""

_LINE_BREAK_IN_FIELD = re.compile(rb"\r\n[ \t]")
_BASE64_WIDTH = 72
_LONG_RUNS = (64, 8, 2)


class NotSignable(ValueError):
    """The message has no header that could be signed; ingress lets none through."""


def relaxed_body(body: bytes) -> bytes:
    """Return the body in its relaxed canonical form (RFC 6376 §3.4.4).

    Written with `bytes.replace`, which runs at memory speed: a regular expression over the whitespace of a large body
    costs more than the signature itself.
    """
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    if b"  " in body:
        for length in _LONG_RUNS:
            body = body.replace(b" " * length, b" ")
        while b"  " in body:
            body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    end = len(body)
    if body.endswith(b" "):  # a last line without CRLF; at most one space is left by now
        end -= 1
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""  # RFC 6376 §3.4.4: an empty body stays empty


def relaxed_field(name: bytes, value: bytes) -> bytes:
    """Return one header field in its relaxed canonical form, without its CRLF (RFC 6376 §3.4.2).

    `value` is everything after the colon, folding included.
    """
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return name.strip(b" \t").lower() + b":" + value.strip(b" ")


def split(mail: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Split a mail into its header fields (name, value after the colon) in order, and its body."""
    if mail.startswith(b"\r\n"):
        return [], mail[2:]
    head, separator, body = mail.partition(b"\r\n\r\n")
    if not separator and head.endswith(b"\r\n"):
        head = head[:-2]
    fields: list[tuple[bytes, bytes]] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, value + b"\r\n" + line)
            continue
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((name, value))
    return fields, body


class Prepared(NamedTuple):
    """What every signature of a mail covers, whichever key makes it."""

    fields: tuple[bytes, ...]
    """Signed header fields in canonical form, in the order of h=."""
    names: tuple[bytes, ...]
    """The names in h=."""
    body_hash: bytes


def prepare(mail: bytes) -> Prepared:
    """Canonicalise a mail once for all its signatures. Lines of the mail end in CRLF. Errors: `NotSignable`."""
    fields, body = split(mail)
    if not any(name.strip(b" \t").lower() == b"from" for name, _ in fields):
        raise NotSignable("the message has no From field to sign")  # RFC 6376 §5.4: From MUST be signed
    by_name: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lower = name.strip(b" \t").lower()
        if lower in _OVERSIGNED_SET:
            by_name.setdefault(lower, []).append(relaxed_field(name, value))
    signed: list[bytes] = []
    names: list[bytes] = []
    for lower in OVERSIGNED:
        present = by_name.get(lower, [])
        signed.extend(reversed(present))  # RFC 6376 §5.4.2: several of one name are taken from the bottom up
        names.extend([lower] * (len(present) + 1))
    return Prepared(tuple(signed), tuple(names), b64encode(sha256(relaxed_body(body)).digest()))


def sign(mail: bytes, *, key: PrivateKey, domain: str, selector: str, now_seconds: int) -> bytes:
    """Return the DKIM-Signature field of a mail; see `prepare` and `signature`."""
    return signature(prepare(mail), key=key, domain=domain, selector=selector, now_seconds=now_seconds)


def signature(prepared: Prepared, *, key: PrivateKey, domain: str, selector: str, now_seconds: int) -> bytes:
    """Return a DKIM-Signature field, with its CRLF, to be put in front of the mail.

    `domain` and `selector` are A-labels.
    """
    algorithm = b"rsa-sha256" if isinstance(key, RSAPrivateKey) else b"ed25519-sha256"
    field = _template(algorithm, domain, selector, now_seconds, prepared.names, prepared.body_hash)
    made = b64encode(_signature(key, b"\r\n".join((*prepared.fields, relaxed_field(b"dkim-signature", field)))))
    folded = b"\r\n\t ".join(made[i : i + _BASE64_WIDTH] for i in range(0, len(made), _BASE64_WIDTH))
    return b"DKIM-Signature:" + field + folded + b"\r\n"


def _signature(key: PrivateKey, octets: bytes) -> bytes:
    if isinstance(key, RSAPrivateKey):
        return key.sign(octets, PKCS1v15(), SHA256())
    return key.sign(sha256(octets).digest())  # RFC 8463 §3: what is signed is the hash


def _template(
    algorithm: bytes, domain: str, selector: str, now_seconds: int, names: Sequence[bytes], body_hash: bytes
) -> bytes:
    """Return the value of the signature field up to an empty b=, folded so that no line is long."""
    lines: list[bytes] = []
    line = b"h="
    for number, name in enumerate(names):
        part = name if number == len(names) - 1 else name + b":"
        if len(line) + len(part) > _BASE64_WIDTH:
            lines.append(line)
            line = b" "
        line += part
    lines.append(line + b";")
    return b"\r\n\t".join(
        (
            b" v=1; a=" + algorithm + b"; c=relaxed/relaxed; d=" + domain.encode("ascii") + b";",
            b"s=" + selector.encode("ascii") + b"; t=" + str(now_seconds).encode("ascii") + b";",
            *lines,
            b"bh=" + body_hash + b";",
            b"b=",
        )
    )


_OVERSIGNED_SET = frozenset(OVERSIGNED)
