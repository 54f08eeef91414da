"""check_host of RFC 7208, without I/O: a generator that yields questions and is sent answers.

    evaluation = check_host(address, "example.com", "bounce@example.com", "relay.example")
    question = next(evaluation); question = evaluation.send(answer); … until StopIteration, whose value is the `Outcome`

`exp=` is checked for syntax and never followed: the result is for us, not for a rejected sender.
"""

import ipaddress
from collections.abc import Generator
from typing import Literal
from urllib.parse import quote

import msgspec

from services.verifier.core.answer import Absent, Answer, Kind, Question, Records, Unknown
from services.verifier.core.spf_record import Directive, Macro, MacroString, SpfRecord, SyntaxFault, is_spf, parse

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Asking = Generator[Question, Answer, "Outcome"]

_RESULTS: dict[str, Result] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_POINTER_LIMIT = 10  # RFC 7208 §4.6.4: PTR records beyond it are ignored
_EXCHANGER_LIMIT = 10  # RFC 7208 §4.6.4: more of them are a permerror


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of RFC 7208 §4.6.4, and one of ours."""

    lookups: int = 10
    """Terms that ask DNS: include, a, mx, ptr, exists, redirect and the macro p."""
    voids: int = 2
    """Terms whose question found nothing."""
    questions: int = 100
    """Questions of one evaluation in all; beyond it the result is temperror, never a judgement."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an evaluation and how it came about."""

    result: Result
    reason: str
    """A clause, such as "'ip4:192.0.2.0/24' of spf.example.net authorises it"."""
    lookups: int = 0
    """Terms evaluated that asked DNS."""
    voids: int = 0


class _Stop(Exception):
    """Ends the whole evaluation with temperror or permerror; never leaves this module."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result: Result = result
        self.reason = reason


def check_host(address: str, domain: str, sender: str, helo: str, limits: Limits | None = None) -> Asking:
    """Evaluate whether `address` may send for `domain` (RFC 7208 §4), as a generator of questions.

    `sender` is the MAIL FROM (or postmaster@HELO for the null sender), `helo` the EHLO name. The domain is compared
    without regard to case. Send a `Records`, `Absent` or `Unknown` for each question.
    """
    evaluation = _Evaluation(_plain(ipaddress.ip_address(address)), sender, helo, limits or Limits())
    try:
        result, reason = yield from evaluation.check(domain)
    except _Stop as stop:
        result, reason = stop.result, stop.reason
    return Outcome(result=result, reason=reason, lookups=evaluation.lookups, voids=evaluation.voids)


Judgement = tuple[Result, str]


class _Evaluation:
    """One evaluation: what stays the same over nested records, and the counters."""

    def __init__(self, address: Address, sender: str, helo: str, limits: Limits) -> None:
        local, at, domain = sender.rpartition("@")
        self.address = address
        self.local = local or "postmaster"  # RFC 7208 §4.3
        self.sender_domain = domain if at else sender
        self.helo = helo
        self.limits = limits
        self.lookups = 0
        self.voids = 0
        self._questions = 0
        self._pointers: tuple[str, ...] | None = None

    def check(self, domain: str) -> Generator[Question, Answer, Judgement]:
        """Select the record of `domain` and walk its terms; includes and redirects come back here."""
        if not _is_name(domain):  # RFC 7208 §4.3
            return "none", f"{domain!r} is not a domain name"
        record = yield from self._record(domain)
        if record is None:
            return "none", f"{domain} has no SPF record"
        for directive in record.directives:
            if (yield from self._matches(directive, domain)):
                result = _RESULTS[directive.qualifier]
                return result, f"'{directive.text}' of {domain} {_VERBS[result]}"
        if record.redirect is None or any(d.name == "all" for d in record.directives):  # RFC 7208 §6.1
            return "neutral", f"no term of the SPF record of {domain} matches"  # RFC 7208 §4.7
        self._count(f"redirect of {domain}")
        target = yield from self._expand(record.redirect, domain)
        result, reason = yield from self.check(target)
        if result == "none":  # RFC 7208 §6.1
            raise _Stop("permerror", f"the redirect of {domain} leads to {target}, which has no SPF record")
        return result, reason

    def _record(self, domain: str) -> Generator[Question, Answer, SpfRecord | None]:
        answer = yield from self._ask(domain, "TXT")
        found = [value for value in answer if is_spf(value)]
        if not found:
            return None
        if len(found) > 1:  # RFC 7208 §4.5
            raise _Stop("permerror", f"{domain} has {len(found)} SPF records, there must be exactly one")
        record = parse(found[0])
        if isinstance(record, SyntaxFault):
            raise _Stop("permerror", f"in the SPF record of {domain}, {record.reason}")
        return record

    def _matches(self, directive: Directive, domain: str) -> Generator[Question, Answer, bool]:
        if directive.name == "all":
            return True
        if directive.network is not None:
            return self.address in directive.network
        if directive.name in ("ip4", "ip6"):
            return False
        self._count(f"'{directive.text}' of {domain}")
        target = (yield from self._expand(directive.target, domain)) if directive.target else domain
        match directive.name:
            case "include":
                return (yield from self._include(target, domain))
            case "exists":
                return bool((yield from self._ask(target, "A", counted=True)))  # RFC 7208 §5.7: always A
            case "a":
                return self._covers((yield from self._addresses(target, counted=True)), directive)
            case "mx":
                return (yield from self._mx(target, directive))
            case _:
                return (yield from self._ptr(target))

    def _include(self, target: str, domain: str) -> Generator[Question, Answer, bool]:
        result, _ = yield from self.check(target)
        if result == "none":  # RFC 7208 §5.2
            raise _Stop("permerror", f"{domain} includes {target}, which has no SPF record")
        return result == "pass"

    def _mx(self, target: str, directive: Directive) -> Generator[Question, Answer, bool]:
        hosts = yield from self._ask(target, "MX", counted=True)
        for number, host in enumerate(hosts):
            if number == _EXCHANGER_LIMIT:
                raise _Stop("permerror", f"{target} has more than {_EXCHANGER_LIMIT} mail exchangers")
            if self._covers((yield from self._addresses(host)), directive):
                return True
        return False

    def _ptr(self, target: str) -> Generator[Question, Answer, bool]:
        names = yield from self._validated(target)
        return any(_is_under(name, target) for name in names)

    def _validated(self, wanted: str) -> Generator[Question, Answer, tuple[str, ...]]:
        """Names of the address that lead back to it (RFC 7208 §5.5), asked for once; those under `wanted` first."""
        if self._pointers is None:
            asked = yield Question(self._reverse(), "PTR")
            self._questions += 1
            # RFC 7208 §5.5: a DNS error in looking up the PTR record means no match
            self._pointers = asked.values[:_POINTER_LIMIT] if isinstance(asked, Records) else ()
            if isinstance(asked, Absent):
                self._void(f"the address {self.address} has no name")
        names = sorted(self._pointers, key=lambda name: (name.lower() != wanted.lower(), not _is_under(name, wanted)))
        confirmed = []
        for name in names:
            try:
                addresses = yield from self._addresses(name)
            except _Stop as stop:
                if stop.result == "temperror":  # RFC 7208 §5.5: this name is skipped
                    continue
                raise
            if self.address in addresses:
                confirmed.append(name)
        return tuple(confirmed)

    def _addresses(self, name: str, *, counted: bool = False) -> Generator[Question, Answer, tuple[Address, ...]]:
        kind: Kind = "A" if self.address.version == 4 else "AAAA"
        answer = yield from self._ask(name, kind, counted=counted)
        return tuple(ipaddress.ip_address(value) for value in answer)

    def _covers(self, addresses: tuple[Address, ...], directive: Directive) -> bool:
        prefix = directive.prefix4 if self.address.version == 4 else directive.prefix6
        return any(self.address in ipaddress.ip_network((a, prefix), strict=False) for a in addresses)

    def _ask(self, name: str, kind: Kind, *, counted: bool = False) -> Generator[Question, Answer, tuple[str, ...]]:
        """Ask and return the values, () if there are none; `counted`: an empty answer is a void look-up of a term."""
        if not _is_askable(name):
            answer: Answer = Absent()  # a name DNS cannot hold certainly has no records
        elif self._questions >= self.limits.questions:
            raise _Stop("temperror", f"it takes more than {self.limits.questions} DNS questions")
        else:
            self._questions += 1
            answer = yield Question(name.rstrip(".").lower(), kind)
        match answer:
            case Records(values):
                return values
            case Unknown(why):
                raise _Stop("temperror", f"{kind} {name}: {why}")
            case Absent():
                if counted:
                    self._void(f"{kind} {name}")
                return ()

    def _count(self, term: str) -> None:
        if self.lookups >= self.limits.lookups:  # RFC 7208 §4.6.4
            raise _Stop("permerror", f"{term} is one DNS look-up more than the {self.limits.lookups} allowed")
        self.lookups += 1

    def _void(self, what: str) -> None:
        self.voids += 1
        if self.voids > self.limits.voids:  # RFC 7208 §4.6.4
            raise _Stop("permerror", f"more than {self.limits.voids} look-ups found nothing, the last one {what}")

    def _expand(self, text: MacroString, domain: str) -> Generator[Question, Answer, str]:
        parts = []
        for part in text:
            parts.append(part if isinstance(part, str) else (yield from self._macro(part, domain)))
        name = "".join(parts).removesuffix(".")
        while len(name) > 253 and "." in name:  # RFC 7208 §7.3: whole labels go, from the left
            name = name.partition(".")[2]
        return name

    def _macro(self, macro: Macro, domain: str) -> Generator[Question, Answer, str]:
        match macro.letter.lower():
            case "%":
                return "%"
            case "_":
                return " "
            case "-":
                return "%20"
            case "s":
                value = f"{self.local}@{self.sender_domain}"
            case "l":
                value = self.local
            case "o":
                value = self.sender_domain
            case "d":
                value = domain
            case "i":
                nibbles = self.address.exploded.replace(":", "")  # RFC 7208 §7.3: IPv6 as nibbles with dots
                value = str(self.address) if self.address.version == 4 else ".".join(nibbles)
            case "p":
                value = yield from self._name_of_address(domain)
            case "v":
                value = "in-addr" if self.address.version == 4 else "ip6"
            case _:
                value = self.helo
        parts = _split(value, macro.delimiters or ".")
        if macro.reverse:
            parts.reverse()
        value = ".".join(parts[-macro.labels :])
        return quote(value, safe="") if macro.letter.isupper() else value  # RFC 7208 §7.3: unreserved stays

    def _name_of_address(self, domain: str) -> Generator[Question, Answer, str]:
        if self._pointers is None:
            self._count("the macro p")
        names = yield from self._validated(domain)
        return names[0] if names else "unknown"  # RFC 7208 §7.3

    def _reverse(self) -> str:
        return self.address.reverse_pointer


_VERBS: dict[str, str] = {
    "pass": "authorises it",
    "fail": "forbids it",
    "softfail": "says it is probably not authorised",
    "neutral": "says nothing about it",
}


def _plain(address: Address) -> Address:
    """Return the IPv4 address that a mapped IPv6 address stands for (RFC 7208 §5)."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _split(value: str, delimiters: str) -> list[str]:
    parts = [""]
    for char in value:
        if char in delimiters:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _is_askable(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    return len(name) <= 253 and all(0 < len(label) <= 63 for label in labels)  # RFC 1035 §2.3.4


def _is_name(domain: str) -> bool:
    return _is_askable(domain) and "." in domain.removesuffix(".") and not domain.startswith("[")


def _is_under(name: str, parent: str) -> bool:
    name, parent = name.lower().rstrip("."), parent.lower().rstrip(".")
    return name == parent or name.endswith("." + parent)
