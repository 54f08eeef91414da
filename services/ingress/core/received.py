"""The trace field ingress puts on top of each message (RFC 5321 §4.4, RFC 3848)."""

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

import msgspec

PRODUCT = "Postlane"
_NAME = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_USER = re.compile(r"[^A-Za-z0-9.@_*+-]")
NAME_LIMIT = 255


class Trace(msgspec.Struct, frozen=True):
    """What the session knows about where a message came from."""

    host: str
    """Our name."""
    client_name: str
    """As given in EHLO."""
    address: str
    """Of the client, "" if it is not known."""
    tls: str
    """Version and cipher, for example `TLSv1.3 TLS_AES_256_GCM_SHA384`."""
    username: str


def masked(username: str) -> str:
    """Return a username with every second character hidden, the first and third staying readable."""
    return "".join("*" if index % 2 else char for index, char in enumerate(_USER.sub("?", username)))


def received_field(trace: Trace, queue_id: str, at: datetime, utf8: bool) -> bytes:
    """Return the whole field, folded, with its CRLF."""
    return f"{_origin(trace, utf8)}\tid {queue_id}; {date_text(at.replace(microsecond=0))}\r\n".encode(
        "ascii", "replace"
    )


@lru_cache(maxsize=4096)
def _origin(trace: Trace, utf8: bool) -> str:
    """Return the lines that are the same for all messages of a session."""
    name = _NAME.sub("?", trace.client_name)[:NAME_LIMIT] or "unknown"
    literal = "unknown"
    if trace.address:
        literal = f"[IPv6:{trace.address}]" if ":" in trace.address else f"[{trace.address}]"
    protocol = "UTF8SMTPSA" if utf8 else "ESMTPSA"  # RFC 6531 §4.3, RFC 3848
    lines = (
        f"Received: from {name} ({literal})",
        f"\tby {trace.host} ({PRODUCT}) with {protocol}",
        f"\t({trace.tls.replace(' ', ', ')}; user {masked(trace.username)})",
    )
    return "\r\n".join((*lines, ""))


@lru_cache(maxsize=16)
def date_text(at: datetime) -> str:
    """Return a time as header fields have it (RFC 5322 §3.3); many messages come in one second."""
    return format_datetime(at)


def is_own(value: bytes, host: str) -> bool:
    """Whether a Received field was put there by this relay, however its lines were folded since."""
    return f"by {host} ({PRODUCT}) with ".encode() in b" ".join(value.split())
