"""Limits a tenant sets to one of its users: checked, brought into one form, every fault listed.

Patterns are addresses in which `*` stands for any characters, such as `*@shop.example` or `orders-*@shop.example`.
"""

from collections.abc import Callable, Sequence
from ipaddress import IPv6Network, ip_network

import msgspec

from services.control.core.fault import Fault
from shared.contract.records import StagingMode, User
from shared.mail.address import Fault as AddressFault
from shared.mail.address import normalise_domain, parse_address

SENDERS = 100
NETWORKS = 100
RECIPIENTS = 1000
PATTERN_LENGTH = 254
STARS = 4
"""Stars in one pattern; more of them say nothing that fewer cannot."""


class GuardRails(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one user; empty and 0 limit nothing."""

    senders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    messages_per_hour: int = 0
    staging: StagingMode = "deliver"
    redirect_to: str = ""
    staging_allowed: tuple[str, ...] = ()


def guard_rails_of(user: User) -> GuardRails:
    """Return a user's present limits."""
    return GuardRails(**{name: getattr(user, name) for name in GuardRails.__struct_fields__})


def checked(wish: GuardRails, domain: str) -> tuple[GuardRails, tuple[Fault, ...]]:
    """Return limits in the form ingress and delivery compare, and everything that is wrong with them.

    `domain` is the sender domain of the user's configuration.
    """
    faults: list[Fault] = []

    def listed(field: str, values: Sequence[str], most: int, read: Callable[[str], str]) -> tuple[str, ...]:
        if len(values) > most:
            faults.append(Fault("too_many_entries", f"{field} must have at most {most} entries", field))
            return ()
        found = []
        for position, value in enumerate(values):
            try:
                found.append(read(value))
            except ValueError as fault:
                faults.append(Fault("invalid_entry", f"{field}[{position}]: {fault}", f"{field}[{position}]"))
        return tuple(dict.fromkeys(found))

    def sender(text: str) -> str:
        made = pattern(text)
        own = made.rpartition("@")[2]
        if own != domain and "*" not in own:
            raise ValueError(f"{text!r} can never be a sender: this user sends for {domain}")
        return made

    made = GuardRails(
        senders=listed("senders", wish.senders, SENDERS, sender),
        networks=listed("networks", wish.networks, NETWORKS, network),
        recipients=listed("recipients", wish.recipients, RECIPIENTS, pattern),
        messages_per_hour=wish.messages_per_hour,
        staging=wish.staging,
        redirect_to=wish.redirect_to,
        staging_allowed=listed("staging_allowed", wish.staging_allowed, RECIPIENTS, pattern),
    )
    if wish.redirect_to and isinstance(address := parse_address(wish.redirect_to), AddressFault):
        faults.append(Fault("invalid_address", f"redirect_to is not a mail address: {address.reason}", "redirect_to"))
    if wish.staging == "redirect" and not wish.redirect_to:
        faults.append(Fault("redirect_to_missing", "staging redirect needs redirect_to: where to?", "redirect_to"))
    if wish.staging == "allow-list" and not wish.staging_allowed:
        faults.append(
            Fault("staging_allowed_missing", "staging allow-list needs staging_allowed: to whom?", "staging_allowed")
        )
    return made, tuple(faults)


def pattern(text: str) -> str:
    """Return a pattern with its domain in lower-case A-labels; a domain alone stands for everybody there.

    Errors: `ValueError` with a clause that says what is wrong.
    """
    text = text.strip()
    local, at, domain = text.rpartition("@")
    if not at:
        local = "*"
    if not text or len(text) > PATTERN_LENGTH:
        raise ValueError(f"a pattern has 1 to {PATTERN_LENGTH} characters, such as *@client.example")
    if text.count("*") > STARS:
        raise ValueError(f"{text!r} has more than {STARS} stars")
    if not local or "@" in local.replace('"', "") or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError(f"{text!r} is no pattern; write for example *@client.example or orders-*@client.example")
    if domain == "*":
        return f"{local}@*"
    labels = []
    for label in domain.split("."):
        # A label with a star cannot be encoded; it is compared as it is written.
        normal = label.lower() if "*" in label else normalise_domain(f"{label}.example")
        if isinstance(normal, AddressFault) or not normal:
            raise ValueError(f"{text!r} has a domain that cannot be: write for example *@client.example")
        labels.append(normal if "*" in label else normal.removesuffix(".example"))
    return f"{local}@{'.'.join(labels)}"


def network(text: str) -> str:
    """Return a network in CIDR form; an address alone is a network of one.

    Errors: `ValueError` with a clause that says what is wrong.
    """
    if "%" in text:
        raise ValueError(f"{text!r} has a scope, which cannot be part of a network")
    try:
        found = ip_network(text.strip())
    except ValueError:
        try:
            meant = ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is not a network; write for example 192.0.2.0/24") from None
        raise ValueError(f"{text} has host bits set; did you mean {meant}?") from None
    if isinstance(found, IPv6Network) and (mapped := found.network_address.ipv4_mapped) and found.prefixlen >= 96:
        return f"{mapped}/{found.prefixlen - 96}"  # RFC 4291 §2.5.5.2
    return str(found)
