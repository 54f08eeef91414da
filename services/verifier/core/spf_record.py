"""The grammar of SPF records (RFC 7208 §12): a record parses into terms, or the text says why it does not.

The whole record is parsed before anything of it is evaluated, so an error anywhere is an error (RFC 7208 §4.6).
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Qualifier = Literal["+", "-", "?", "~"]

_VERSION = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)  # RFC 7208 §4.5
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)([:/].*)?", re.DOTALL)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_MACRO = re.compile(r"%\{([slodiphvSLODIPHV])([0-9]*)([rR]?)([.+,/_=-]*)\}|%([%_-])")
_LITERAL = re.compile(r"[\x21-\x24\x26-\x7e]+")  # RFC 7208 §7.1 macro-literal
_TOPLABEL = re.compile(r"\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?$")
_CIDR = r"(?:0|[1-9][0-9]{0,2})"
_DUAL_CIDR = re.compile(rf"(.*?)(?:/({_CIDR}))?(?://({_CIDR}))?", re.DOTALL)  # RFC 7208 §5.6


class Macro(msgspec.Struct, frozen=True):
    """One macro-expand: `%{` letter, digits, r, delimiters `}` (RFC 7208 §7.1)."""

    letter: str
    """Upper case asks for URL escaping."""
    labels: int
    """How many of the rightmost parts are kept; 0 keeps all."""
    reverse: bool
    delimiters: str


MacroString = tuple[str | Macro, ...]
"""Literal texts and macros, in order."""


class Directive(msgspec.Struct, frozen=True):
    """A mechanism with its qualifier; fields a mechanism does not take are empty."""

    qualifier: Qualifier
    name: Literal["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"]
    text: str
    """As written, for people."""
    target: MacroString = ()
    network: Network | None = None
    prefix4: int = 32
    prefix6: int = 128


class SpfRecord(msgspec.Struct, frozen=True):
    """A parsed record."""

    directives: tuple[Directive, ...]
    redirect: MacroString | None = None


class SyntaxFault(msgspec.Struct, frozen=True):
    """Why a record is not one, as a clause: "the term 'moo' is unknown"."""

    reason: str


class _Malformed(Exception):
    """Carries the reason out of the parser; never leaves this module."""


def is_spf(text: str) -> bool:
    """Tell whether a TXT value claims to be an SPF record of version 1 (RFC 7208 §4.5)."""
    return _VERSION.match(text) is not None


def parse(text: str) -> SpfRecord | SyntaxFault:
    """Parse a TXT value for which `is_spf` holds."""
    try:
        return _record(text)
    except _Malformed as fault:
        return SyntaxFault(str(fault))


def _record(text: str) -> SpfRecord:
    directives: list[Directive] = []
    modifiers: dict[str, MacroString] = {}
    for term in text[len("v=spf1") :].split(" "):
        if not term:
            continue
        if modifier := _MODIFIER.fullmatch(term):
            name = modifier[1].lower()
            if name in ("redirect", "exp"):
                if name in modifiers:  # RFC 7208 §6
                    raise _Malformed(f"{name}= appears twice")
                modifiers[name] = _domain_spec(modifier[2], term)
            else:
                _macro_string(modifier[2], term)  # RFC 7208 §6: unknown modifiers are ignored, but must be well formed
        else:
            directives.append(_directive(term))
    return SpfRecord(tuple(directives), modifiers.get("redirect"))


def _directive(term: str) -> Directive:
    found = _DIRECTIVE.fullmatch(term)
    if not found:
        raise _Malformed(f"the term {_shown(term)} is malformed")
    qualifier: Qualifier = found[1] or "+"  # type: ignore[assignment]
    name, argument = found[2].lower(), found[3] or ""
    match name:
        case "all":
            if argument:
                raise _Malformed(f"{_shown(term)} takes no argument")
            return Directive(qualifier, "all", term)
        case "include" | "exists":
            return Directive(qualifier, name, term, _domain_spec(_after_colon(argument, term), term))
        case "ptr":
            target = _domain_spec(_after_colon(argument, term), term) if argument else ()
            return Directive(qualifier, "ptr", term, target)
        case "a" | "mx":
            spec, prefix4, prefix6 = _dual_cidr(argument, term)
            target = _domain_spec(spec[1:], term) if spec else ()
            return Directive(qualifier, name, term, target, None, prefix4, prefix6)
        case "ip4" | "ip6":
            return Directive(qualifier, name, term, (), _network(name, _after_colon(argument, term), term))
        case _:
            raise _Malformed(f"the mechanism {_shown(term)} is unknown")


def _after_colon(argument: str, term: str) -> str:
    if argument[:1] != ":":
        raise _Malformed(f"{_shown(term)} needs an argument after a colon")
    return argument[1:]


def _dual_cidr(argument: str, term: str) -> tuple[str, int, int]:
    found = _DUAL_CIDR.fullmatch(argument)
    if not found:
        raise _Malformed(f"the term {_shown(term)} is malformed")
    spec, prefix4, prefix6 = found[1], int(found[2] or 32), int(found[3] or 128)
    if prefix4 > 32 or prefix6 > 128:
        raise _Malformed(f"the prefix length in {_shown(term)} is too large")
    if spec and spec[0] != ":":
        raise _Malformed(f"the prefix length in {_shown(term)} is malformed")
    return spec, prefix4, prefix6


def _network(name: str, argument: str, term: str) -> Network:
    address, slash, length = argument.partition("/")
    if slash and not re.fullmatch(_CIDR, length):
        raise _Malformed(f"the prefix length in {_shown(term)} is malformed")
    try:
        if name == "ip4":
            return ipaddress.IPv4Network((ipaddress.IPv4Address(address), int(length or 32)), strict=False)
        if "%" in address:  # a scope such as %eth0 has no meaning in DNS
            raise ValueError
        return ipaddress.IPv6Network((ipaddress.IPv6Address(address), int(length or 128)), strict=False)
    except ValueError:
        raise _Malformed(f"{_shown(term)} has no valid address") from None


def _domain_spec(text: str, term: str) -> MacroString:
    """Parse a domain-spec: it ends in a top label or in a macro (RFC 7208 §7.1)."""
    parts = _macro_string(text, term)
    if not parts:
        raise _Malformed(f"{_shown(term)} names no domain")
    if isinstance(parts[-1], str) and not _TOPLABEL.search(text):
        raise _Malformed(f"{_shown(term)} does not end in a domain name")
    return parts


def _macro_string(text: str, term: str) -> MacroString:
    return tuple(_macro_parts(text, term))


def _macro_parts(text: str, term: str) -> Iterator[str | Macro]:
    position = 0
    while position < len(text):
        if literal := _LITERAL.match(text, position):
            yield literal[0]
            position = literal.end()
        elif macro := _MACRO.match(text, position):
            if macro[5]:
                yield Macro(macro[5], 0, False, "")  # %%, %_ and %- : marked as macros, since a domain may end in one
            else:
                labels = int(macro[2]) if macro[2] else 0
                if macro[2] and not labels:  # RFC 7208 §7.1: zero is not allowed
                    raise _Malformed(f"the macro in {_shown(term)} keeps zero labels")
                yield Macro(macro[1], labels, bool(macro[3]), macro[4])
            position = macro.end()
        else:
            raise _Malformed(f"the term {_shown(term)} has a malformed macro or a character that is not allowed")


def _shown(term: str) -> str:
    return "'" + "".join(c if " " <= c <= "~" else f"\\{ord(c):03d}" for c in term[:80]) + "'"
