"""Mail addresses and domains as RFC 5321 §4.1.2 and RFC 6531 §3.3 allow them.

`parse_address` and `normalise_domain` return a value or a `Fault`, never an exception: bad input is expected.
The local part is opaque and kept octet for octet; the domain is compared in its A-label, lower-case form.
"""

import re
from functools import lru_cache

import idna
import msgspec

LOCAL_LIMIT = 64  # RFC 5321 §4.5.3.1.1
DOMAIN_LIMIT = 255  # RFC 5321 §4.5.3.1.2
PATH_LIMIT = 254  # RFC 5321 §4.5.3.1.3: 256 with the angle brackets

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED_STRING = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Also those beyond ASCII, which end lines or steer terminals (RFC 5198 §2)."""
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class Fault(msgspec.Struct, frozen=True):
    """Why a text is not an address or a domain, as a clause that completes a sentence."""

    reason: str


class Address(msgspec.Struct, frozen=True):
    """A mailbox: local part as written, domain as written and in its comparable form."""

    local: str
    domain: str
    """Lower-case A-label form, for comparison and routing."""
    written: str
    """The whole address exactly as the client wrote it."""

    @property
    def is_ascii(self) -> bool:
        """Whether the address can travel without SMTPUTF8."""
        return self.written.isascii()

    def __str__(self) -> str:
        """Return the address as written."""
        return self.written


def parse_address(text: str) -> Address | Fault:
    """Parse `local@domain` without angle brackets; literals, source routes and unqualified names are faults."""
    return _known(text) if len(text) <= PATH_LIMIT else _parse(text)


@lru_cache(maxsize=4096)
def _known(text: str) -> Address | Fault:
    """Parse each of the addresses seen lately once: a sender's comes with every message, twice."""
    return _parse(text)


def _parse(text: str) -> Address | Fault:
    if _CONTROL.search(text):
        return Fault("it contains a control character")
    if text.startswith("@"):
        return Fault("source routes are not supported")  # RFC 5321 §4.1.2: A-d-l is obsolete
    local, at, domain = text.rpartition("@")
    if not at or not local:
        return Fault("it needs the form name@domain")
    if not (_DOT_STRING.fullmatch(local) or _QUOTED_STRING.fullmatch(local)):
        return Fault("the part before the @ is malformed")
    if len(local.encode("utf-8", "replace")) > LOCAL_LIMIT:
        return Fault(f"the part before the @ is longer than {LOCAL_LIMIT} octets")
    if domain.startswith("["):
        return Fault("address literals are not supported, use a domain name")
    if len(text.encode("utf-8", "replace")) > PATH_LIMIT:  # before the domain, which would be remembered
        return Fault(f"it is longer than {PATH_LIMIT} octets")
    normal = normalise_domain(domain)
    if isinstance(normal, Fault):
        return normal
    return Address(local, normal, text)


@lru_cache(maxsize=4096)
def normalise_domain(text: str) -> str | Fault:
    """Return a domain in lower-case A-labels, or why it is not one. A trailing dot is a fault, as in SMTP."""
    if not text:
        return Fault("the domain is empty")
    if text.isascii():
        ascii_form = text.lower()
    else:
        try:
            ascii_form = idna.encode(text, uts46=True, transitional=False).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            return Fault("the domain is not a valid internationalised name")
    if len(ascii_form) > DOMAIN_LIMIT:
        return Fault(f"the domain is longer than {DOMAIN_LIMIT} octets")
    labels = ascii_form.split(".")
    if any(not _LABEL.fullmatch(label) for label in labels):
        return Fault("the domain is malformed")
    if len(labels) < 2:
        return Fault("the domain is not fully qualified")
    if labels[-1].isdigit():
        return Fault("the domain is a number, not a name")
    return ascii_form


def mask(address: str) -> str:
    """Hide every second character before the last @, from the first on, as the product's logs do."""
    local, at, domain = address.rpartition("@")
    if not at:
        return "*" * len(address)
    return "".join("*" if i % 2 else c for i, c in enumerate(local)) + "@" + domain
