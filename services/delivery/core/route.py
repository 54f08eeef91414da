"""From DNS answers to the exchangers to try, in order (RFC 5321 §5.1, RFC 7505). Chance comes in as an argument."""

from collections.abc import Sequence

import msgspec

from services.delivery.core import reach
from services.delivery.core.outcome import Bounced, Deferred, Outcome, lost, refused
from services.delivery.core.sts import OPPORTUNISTIC, Demand
from shared.mail.address import Fault, parse_address

EXCHANGERS_LIMIT = 10
ADDRESSES_LIMIT = 5
TRIES_LIMIT = 20


class Found(msgspec.Struct, frozen=True):
    """Records of the type that was asked for."""

    values: tuple[str, ...]


class MxFound(msgspec.Struct, frozen=True):
    """MX records: preference and host; "" is the root, the null MX."""

    values: tuple[tuple[int, str], ...]


class NoData(msgspec.Struct, frozen=True):
    """The name exists and has no record of that type."""


class NoName(msgspec.Struct, frozen=True):
    """NXDOMAIN: the name does not exist."""


class NoAnswer(msgspec.Struct, frozen=True):
    """SERVFAIL, REFUSED, a time-out, garbage: nothing is known."""

    why: str


MxAnswer = MxFound | NoData | NoName | NoAnswer
AddressAnswer = Found | NoData | NoName | NoAnswer


class Exchangers(msgspec.Struct, frozen=True):
    """Hosts to try for a domain, best first; their addresses are not known yet."""

    hosts: tuple[str, ...]
    implicit: bool = False
    """There was no MX: the domain itself is the exchanger (RFC 5321 §5.1)."""


class Door(msgspec.Struct, frozen=True):
    """One validated address of an exchanger, and what is demanded of the encryption towards it."""

    host: str
    address: str
    demand: Demand = OPPORTUNISTIC


class Doors(msgspec.Struct, frozen=True):
    """The addresses of an exchanger delivery may connect to, and why others were left out."""

    doors: tuple[Door, ...]
    problem: Outcome | None = None
    """What to say of this exchanger if it has no door at all."""


def domain_of(recipient: str) -> str | Bounced:
    """Return the domain a recipient is routed by, in A-labels, or the bounce for an address that cannot be routed."""
    parsed = parse_address(recipient)
    if isinstance(parsed, Fault):
        return refused("5.1.3", f"the recipient's address cannot be used: {parsed.reason}", "route", "mailbox")
    return parsed.domain


def exchangers(domain: str, answer: MxAnswer, chances: Sequence[float]) -> Exchangers | Outcome:
    """Order the exchangers of a domain, or say what becomes of its recipients.

    `chances` are numbers in [0, 1) that decide the order among equal preferences; they are used cyclically.
    """
    if isinstance(answer, NoAnswer):
        return lost(f"the MX records of {domain} could not be looked up: {answer.why}", "route", "4.4.3")
    if isinstance(answer, NoName):
        return refused("5.1.2", f"the domain {domain} does not exist", "route", "routing")
    if isinstance(answer, NoData):
        return Exchangers((domain,), implicit=True)  # RFC 5321 §5.1: implicit MX
    if any(host == "" for _, host in answer.values):
        hosts = [host for _, host in answer.values if host]
        if not hosts:  # RFC 7505 §3: null MX
            return refused("5.1.10", f"the domain {domain} accepts no mail (null MX)", "route", "routing", 556)
    ranked = sorted(
        (preference, chances[number % len(chances)] if chances else 0.0, number, host.lower())
        for number, (preference, host) in enumerate(answer.values)
        if host
    )
    unique = dict.fromkeys(host for _, _, _, host in ranked)
    return Exchangers(tuple(unique)[:EXCHANGERS_LIMIT])


def doors(
    host: str,
    six: AddressAnswer,
    four: AddressAnswer,
    *,
    allowed: tuple[reach.IpNetwork, ...],
    refused_networks: tuple[reach.IpNetwork, ...] = (),
    prefer_ipv6: bool = True,
) -> Doors:
    """Return the addresses of a host delivery may connect to, at most `ADDRESSES_LIMIT`, families alternating."""
    families = [
        list(answer.values) if isinstance(answer, Found) else []
        for answer in ((six, four) if prefer_ipv6 else (four, six))
    ]
    mixed = [family[n] for n in range(max(map(len, families), default=0)) for family in families if n < len(family)]
    open_doors: list[Door] = []
    closed: list[str] = []
    for address in dict.fromkeys(map(reach.unmapped, mixed)):
        why = reach.refusal(address, allowed, refused_networks)
        if why:
            closed.append(f"{address}: {why}")
        else:
            open_doors.append(Door(host, address))
    if open_doors:
        return Doors(tuple(open_doors[:ADDRESSES_LIMIT]))
    return Doors((), _no_door(host, six, four, closed))


def _no_door(host: str, six: AddressAnswer, four: AddressAnswer, closed: list[str]) -> Outcome:
    for answer in (four, six):
        if isinstance(answer, NoAnswer):
            return lost(f"the address of {host} could not be looked up: {answer.why}", "route", "4.4.3", host=host)
    if closed:
        said = f"{host} has no address mail can be sent to ({closed[0]})"
        return refused("5.4.4", said, "route", "routing", host=host)
    what = "does not exist" if isinstance(four, NoName) or isinstance(six, NoName) else "has no address"
    return refused("5.4.4", f"the mail exchanger {host} {what}", "route", "routing", host=host)


def no_way(problems: Sequence[Outcome], domain: str) -> Outcome:
    """Return what becomes of a domain's recipients if none of its exchangers has a usable address.

    One look-up that may work later is enough to wait.
    """
    for problem in problems:
        if isinstance(problem, Deferred):
            return problem
    if problems:
        return problems[0]
    return lost(f"no mail exchanger of {domain} could be tried", "route", "4.4.4")
