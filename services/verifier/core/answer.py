"""What DNS was asked and what came back, as values.

Three kinds of answer matter, and they never mix: `Records` (something is there), `Absent` (it is certain that nothing
is there) and `Unknown` (nobody can say now). Only the first two are definitive; an `Unknown` never suspends anybody.
"""

from typing import Literal

import msgspec

Kind = Literal["TXT", "A", "AAAA", "MX", "PTR", "NS"]


class Question(msgspec.Struct, frozen=True):
    """One DNS question; `name` is without the trailing dot."""

    name: str
    kind: Kind


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer came from."""

    resolver: str = ""
    """`host:port` of the server that gave it."""
    rcode: str = ""
    """NOERROR, NXDOMAIN, SERVFAIL …, or TIMEOUT when nothing came."""
    ttl: int | None = None
    """Seconds the answer may be kept; None if it says nothing about that."""
    canonical: str = ""
    """The name at the end of a chain of CNAMEs, "" if there was none."""


class Records(msgspec.Struct, frozen=True):
    """The records found, at least one.

    TXT: the strings of each record joined without spaces, one character per octet (ISO 8859-1). A and AAAA: addresses.
    MX: host names, most preferred first ("" is the null MX). PTR and NS: names. No name has a trailing dot.
    """

    values: tuple[str, ...]
    evidence: Evidence = Evidence()


class Absent(msgspec.Struct, frozen=True):
    """It is certain that no such record exists (NXDOMAIN, or NOERROR without data)."""

    evidence: Evidence = Evidence()


class Unknown(msgspec.Struct, frozen=True):
    """No server could say; `why` is a clause such as "the name servers did not answer in time"."""

    why: str
    evidence: Evidence = Evidence()


Answer = Records | Absent | Unknown


VALUES_KEPT = 10
VALUE_LENGTH = 4_000
"""Of what a zone serves, at most so much is kept as evidence: every room has all standings in memory."""


def kept(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return TXT values as evidence: printable, and cut where a zone serves more than any record needs."""
    shown = tuple(cut(printable(value[: VALUE_LENGTH + 1]), VALUE_LENGTH) for value in values[:VALUES_KEPT])
    return shown if len(values) <= VALUES_KEPT else (*shown, f"({len(values) - VALUES_KEPT} more values)")


def cut(text: str, length: int) -> str:
    """Return a text, or how it begins with a remark that it goes on; what is cut is no record any more."""
    return text if len(text) <= length else text[:length] + " (and so on)"


def printable(value: str) -> str:
    r"""Return a TXT value fit for a log line: what is not printable ASCII is written \DDD (RFC 1035 §5.1)."""
    return "".join(c if " " <= c <= "~" else f"\\{ord(c) & 0xFF:03d}" for c in value)
