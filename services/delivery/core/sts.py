"""MTA-STS (RFC 8461): a domain's record and policy from their octets, and what a policy demands of an exchanger.

Pure: DNS answers and HTTPS bodies come in, values go out. DANE, once it exists, makes a `Demand` too.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from shared.contract.siblings import TransportPolicy
from shared.mail.address import Fault, normalise_domain

LONGEST_SECONDS = 31_557_600  # RFC 8461 §3.2: a year
_VERSION = re.compile(r"v=STSv1[ \t]*(?:;|$)")
_FIELD = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([\x21-\x3a\x3c\x3e-\x7e]+)")
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_TERM = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(.*)")
_AGE = re.compile(r"[0-9]{1,10}")


class Demand(msgspec.Struct, frozen=True):
    """What encryption towards a domain's exchangers must be; equal demands can share a transaction."""

    policy: str = ""
    """How records name it, for example `MTA-STS enforce 20260101` ; "": opportunistic, nothing is demanded."""
    enforced: bool = False
    """An exchanger that does not meet it gets nothing. If not, a failure is only noted (testing)."""
    mx: tuple[str, ...] = ()
    """Patterns one of which an exchanger must match."""

    def allows(self, host: str) -> bool:
        """Return whether an exchanger's name is one the policy knows."""
        return not self.policy or any(matches(pattern, host) for pattern in self.mx)


OPPORTUNISTIC = Demand()


class Terms(msgspec.Struct, frozen=True):
    """A policy document."""

    mode: str
    mx: tuple[str, ...]
    max_age_seconds: int


def record_id(texts: Sequence[str]) -> str:
    """Return the `id` of the one record among a name's TXT values, "" if there is none or it cannot be used."""
    records = [text for text in texts if _VERSION.match(text)]
    if len(records) != 1:  # RFC 8461 §3.1: not exactly one means that there is no policy
        return ""
    found = ""
    for part in records[0].split(";")[1:]:
        part = part.strip(" \t")
        if not part:
            continue
        field = _FIELD.fullmatch(part)
        if field is None:
            return ""
        if field[1] == "id" and not found:
            if not _ID.fullmatch(field[2]):
                return ""
            found = field[2]
    return found


def terms(body: bytes) -> Terms | Fault:
    """Read a policy document (RFC 8461 §3.2), or say what is wrong with it."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return Fault("the policy is not UTF-8")
    values: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        line = line.strip(" \t")
        if not line:
            continue
        term = _TERM.fullmatch(line)
        if term is None:
            return Fault("a line of the policy is not of the form `key: value`")
        if term[1] == "mx":
            patterns.append(term[2])
        else:
            values.setdefault(term[1], term[2])  # RFC 8461 §3.2: the first of several counts
    if values.get("version") != "STSv1":
        return Fault("the policy's version is not STSv1")
    mode, age = values.get("mode", ""), values.get("max_age", "")
    if mode not in ("enforce", "testing", "none"):
        return Fault("the policy's mode is none of enforce, testing and none")
    if not _AGE.fullmatch(age):
        return Fault("the policy's max_age is not a number of seconds")
    mx = [_pattern(text) for text in patterns]
    if not all(mx) or (not mx and mode != "none"):
        return Fault("the policy names no usable mx")
    return Terms(mode, tuple(dict.fromkeys(mx)), min(int(age), LONGEST_SECONDS))


def policy(domain: str, record: str, found: Terms, now: datetime) -> TransportPolicy:
    """Return what is kept of a policy fetched now, when the domain's TXT record had the id `record`."""
    return TransportPolicy(
        domain=domain,
        id=record,
        mode=found.mode,  # type: ignore[arg-type]  # one of the three words, checked by `terms`
        mx=found.mx,
        fetched_at=now,
        expires_at=now + timedelta(seconds=found.max_age_seconds),
    )


def demand(found: TransportPolicy | None) -> Demand:
    """Return what a policy demands; without one, or with mode none, nothing."""
    if found is None or found.mode == "none":
        return OPPORTUNISTIC
    return Demand(f"MTA-STS {found.mode} {found.id}", found.mode == "enforce", found.mx)


def matches(pattern: str, host: str) -> bool:
    """Return whether a pattern names an exchanger; `*.` stands for exactly one label (RFC 8461 §4.1)."""
    host = host.lower().rstrip(".")
    if pattern.startswith("*."):
        first, dot, rest = host.partition(".")
        return bool(first and dot) and rest == pattern[2:]
    return host == pattern


def _pattern(text: str) -> str:
    """Return a pattern in comparable form, "" if it is none."""
    wild, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    normal = normalise_domain(name.rstrip(".")) if name.isascii() else Fault("")
    return "" if isinstance(normal, Fault) else wild + normal
