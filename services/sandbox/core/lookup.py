"""Looking a name up in authoritative data: answer, no data, no such name, or a pretended fault.

A name is a tuple of lower-case labels without the root (`("mx", "demo", "example")`), so that a dot inside a label
cannot be mistaken for a boundary.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

Name = tuple[str, ...]
FAULT = "FAULT"
"""The pretended record type whose value says how questions about its owner fail."""
CHAIN_LIMIT = 16


class RecordSet(msgspec.Struct, frozen=True, omit_defaults=True):
    """The records of one name and type, in presentation format (TXT: the text itself)."""

    values: tuple[str, ...]
    ttl_seconds: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """How questions about a name fail."""

    kind: str
    """SERVFAIL, REFUSED, TIMEOUT, LAME or SLOW."""
    seconds: int = 0
    """Delay of SLOW; the answer is then the true one."""
    types: frozenset[str] = frozenset()
    """Only questions of these types; empty: all."""
    below: bool = False
    """Also for every name beneath the owner."""


FAULT_KINDS = ("SERVFAIL", "REFUSED", "TIMEOUT", "LAME", "SLOW")
FAULT_SYNTAX = "SERVFAIL|REFUSED|TIMEOUT|LAME|SLOW+<seconds> [<type> …] [*]; * is for every name beneath as well"


class Found(msgspec.Struct, frozen=True):
    """One record set of an answer, with the name it belongs to."""

    owner: Name
    type: str
    records: RecordSet


class Answer(msgspec.Struct, frozen=True):
    """The outcome of a look-up; `found` holds the CNAMEs on the way and what was asked for."""

    kind: Literal["data", "nodata", "nxdomain"]
    found: tuple[Found, ...] = ()
    start_of_authority: Found | None = None
    """The zone's SOA, for a negative answer (RFC 2308 §3); None if the data has none."""
    fault: Fault | None = None


def parse_fault(text: str) -> Fault | None:
    """Read the value of a FAULT record, or return None if it is not one (`FAULT_SYNTAX`)."""
    kind, *rest = text.split() or [""]
    word, plus, seconds = kind.upper().partition("+")
    if word not in FAULT_KINDS or (word == "SLOW") != bool(plus) or (plus and not seconds.isdecimal()):
        return None
    return Fault(word, int(seconds or 0), frozenset(t.upper() for t in rest if t != "*"), "*" in rest)


class ZoneData:
    """Authoritative data, read-only, with the names that exist only because others lie beneath them."""

    def __init__(self, names: Mapping[Name, Mapping[str, RecordSet]]) -> None:
        self._names = names
        self._existing = {name[i:] for name in names for i in range(len(name) + 1)}

    def look_up(self, name: Name, kind: str) -> Answer:
        """Answer one question, following CNAMEs through the data. `kind` is a type, or ANY."""
        chain: list[Found] = []
        seen: set[Name] = set()
        slow: Fault | None = None
        while True:
            fault = self._fault(name, kind)
            if fault is not None and fault.kind == "SLOW":
                slow = slow or fault
            elif fault is not None:
                return Answer("nodata", tuple(chain), fault=fault)
            sets = self._sets(name)
            if sets is None:  # RFC 6604 §3: the code is that of the last name of the chain
                return Answer("nxdomain", tuple(chain), self._authority(name), slow)
            if kind == "ANY":
                return Answer("data", tuple(Found(name, t, s) for t, s in sets.items() if t != FAULT), fault=slow)
            if kind in sets:
                return Answer("data", (*chain, Found(name, kind, sets[kind])), fault=slow)
            if "CNAME" not in sets:
                return Answer("nodata", tuple(chain), self._authority(name), slow)
            chain.append(Found(name, "CNAME", sets["CNAME"]))
            seen.add(name)
            name = labels(sets["CNAME"].values[0])
            if name in seen or len(chain) > CHAIN_LIMIT:
                return Answer("data", tuple(chain), fault=slow)

    def _sets(self, name: Name) -> Mapping[str, RecordSet] | None:
        if name in self._names:
            return self._names[name]
        if name in self._existing:
            return {}  # RFC 4592 §2.2.2: an empty non-terminal exists
        for i in range(1, len(name) + 1):
            if name[i:] in self._existing:  # RFC 4592 §3.3.1: only the closest encloser's wildcard counts
                return self._names.get(("*", *name[i:]))
        return None

    def _fault(self, name: Name, kind: str) -> Fault | None:
        for i in range(len(name) + 1):
            sets = self._names.get(name[i:])
            if sets is None or FAULT not in sets:
                continue
            fault = parse_fault(sets[FAULT].values[0])
            if fault is not None and (i == 0 or fault.below) and (not fault.types or kind in fault.types):
                return fault
        return None

    def _authority(self, name: Name) -> Found | None:
        for i in range(len(name) + 1):
            sets = self._names.get(name[i:], {})
            if "SOA" in sets:
                return Found(name[i:], "SOA", sets["SOA"])
        return None


_LABEL = re.compile(r"(?:\\\d{3}|\\.|[^.\\])+")
_ESCAPE = re.compile(r"\\(\d{3}|.)")


def labels(text: str) -> Name:
    r"""Split a name in presentation format at its dots; `\.` is a dot inside a label (RFC 1035 §5.1)."""
    return tuple(_ESCAPE.sub(_unescaped, label).lower() for label in _LABEL.findall(text))


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1])) if len(match[1]) == 3 else match[1]
