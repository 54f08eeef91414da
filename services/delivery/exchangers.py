"""Looks up mail exchangers and their addresses through dnspython, and turns every outcome into a value of `core.route`.

NXDOMAIN and "no data" are facts; SERVFAIL, refusals, time-outs and garbage are not knowing.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple, TypeVar, cast

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver

from services.delivery.core.route import AddressAnswer, Found, MxAnswer, MxFound, NoAnswer, NoData, NoName
from services.delivery.settings import DeliverySettings

DNS_PORT = 53
LONGEST_SECONDS = 86_400.0
"""How long an answer is kept at most, whatever its TTL."""
EDNS_PAYLOAD = 1232
RECORDS_KEPT = 30
"""Of one answer; several times what an attempt tries. A stranger's zone may have thousands under each of many names."""
TEXT_KEPT = 512
"""Octets kept of one TXT value."""

T = TypeVar("T")


class Exchangers:
    """Asks the configured resolvers; answers are kept for their TTL. Owns no socket between questions."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not settings.resolvers)
        if settings.resolvers:
            self._resolver.nameservers = [_nameserver(text) for text in settings.resolvers]
        self._resolver.lifetime = settings.dns_timeout_seconds
        self._resolver.timeout = min(2.0, settings.dns_timeout_seconds / 2)  # one try, so that others follow in time
        self._entries = settings.dns_cache_entries
        self._kept: dict[tuple[str, dns.rdatatype.RdataType], _Kept] = {}
        self._resolver.use_edns(0, 0, EDNS_PAYLOAD)
        self._resolver.search = []

    async def mx(self, domain: str) -> MxAnswer:
        """Return the MX records of a domain."""
        return await self._known(domain, dns.rdatatype.MX, _exchangers)

    async def addresses(self, host: str) -> tuple[AddressAnswer, AddressAnswer]:
        """Return the IPv6 and the IPv4 addresses of a host."""
        six, four = self._kept_of(host, dns.rdatatype.AAAA), self._kept_of(host, dns.rdatatype.A)
        if six is not None and four is not None:
            return cast(AddressAnswer, six.value), cast(AddressAnswer, four.value)
        return await asyncio.gather(
            self._known(host, dns.rdatatype.AAAA, _addresses), self._known(host, dns.rdatatype.A, _addresses)
        )

    async def texts(self, name: str) -> tuple[str, ...]:
        """Return the TXT values of a name, strings joined; none if there are none or nobody knows."""
        answer = await self._known(name, dns.rdatatype.TXT, _strings)
        return answer if isinstance(answer, tuple) else ()

    def forget(self) -> None:
        """Drop every kept answer."""
        self._kept.clear()

    def _kept_of(self, name: str, kind: dns.rdatatype.RdataType) -> "_Kept | None":
        kept = self._kept.get((name, kind))
        return kept if kept is not None and kept.since <= time.time() < kept.until else None

    async def _known(
        self, name: str, kind: dns.rdatatype.RdataType, read: Callable[[dns.resolver.Answer], T]
    ) -> "T | NoData | NoName | NoAnswer":
        """Return an answer as `read` reads it; reading it again for each message would cost more than all the rest."""
        kept = self._kept_of(name, kind)
        if kept is not None:
            return cast("T | NoData | NoName | NoAnswer", kept.value)
        answer, until = await self._ask(name, kind)
        if isinstance(answer, NoAnswer):
            return answer
        value = read(answer) if isinstance(answer, dns.resolver.Answer) else answer
        while len(self._kept) >= self._entries:
            self._kept.pop(next(iter(self._kept)))
        now = time.time()
        self._kept[name, kind] = _Kept(now, min(until, now + LONGEST_SECONDS), value)
        return value

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> "tuple[dns.resolver.Answer | NoData | NoName | NoAnswer, float]":
        """Return an answer, and until when it holds by the wall's clock, as dnspython counts."""
        try:
            # Absolute: no search list may turn a foreign name into one of ours.
            answer = await self._resolver.resolve(name + ".", kind, search=False)
        except dns.resolver.NXDOMAIN as fault:
            return NoName(), min(map(_until, fault.kwargs["responses"].values()))
        except dns.resolver.NoAnswer as fault:
            reply: dns.message.QueryMessage = fault.kwargs["response"]
            return _without_data(reply), _until(reply)
        except dns.resolver.LifetimeTimeout:
            return NoAnswer("the name servers did not answer in time"), 0.0
        except dns.resolver.NoNameservers as fault:
            return NoAnswer(_reason(fault)), 0.0
        except (dns.exception.DNSException, OSError) as fault:
            return NoAnswer(type(fault).__name__), 0.0
        return answer, answer.expiration


def _until(reply: dns.message.QueryMessage) -> float:
    return time.time() + reply.resolve_chaining().minimum_ttl  # RFC 2308 §5


def _without_data(reply: dns.message.Message) -> NoData | NoAnswer:
    """Tell a name without such records from a server that only names others, or half the way (RFC 2308 §2.2)."""
    kinds = {rrset.rdtype for rrset in reply.authority}
    if dns.rdatatype.SOA not in kinds:
        if dns.rdatatype.NS in kinds:
            return NoAnswer("the name server only refers to others")
        if any(rrset.rdtype == dns.rdatatype.CNAME for rrset in reply.answer):
            return NoAnswer("the name server does not follow an alias")
    return NoData()


class _Kept(NamedTuple):
    """An answer as it was read, and from when until when it holds: a clock that was put back ends it too."""

    since: float
    until: float
    value: object


def _exchangers(answer: dns.resolver.Answer) -> MxFound:
    best = sorted(answer, key=lambda r: int(r.preference))[:RECORDS_KEPT]
    records = [(int(r.preference), r.exchange.to_text(omit_final_dot=True)) for r in best]
    # The root, "." in the zone, is the null MX.
    return MxFound(tuple((preference, "" if host in (".", "@") else host) for preference, host in records))


def _addresses(answer: dns.resolver.Answer) -> Found:
    return Found(tuple(r.address for r in islice(answer, RECORDS_KEPT)))


def _strings(answer: dns.resolver.Answer) -> tuple[str, ...]:
    return tuple(
        b"".join(record.strings)[:TEXT_KEPT].decode("utf-8", "replace") for record in islice(answer, RECORDS_KEPT)
    )


def _reason(fault: dns.resolver.NoNameservers) -> str:
    """Name the answer that disqualified the name servers, such as SERVFAIL."""
    with contextlib.suppress(KeyError, IndexError, TypeError):
        said = fault.kwargs["errors"][-1][3]
        return said if isinstance(said, str) else type(said).__name__
    return "no name server gave a usable answer"


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    host, bracket, rest = text.removeprefix("[").partition("]")
    if bracket:
        return dns.nameserver.Do53Nameserver(host, int(rest.removeprefix(":") or DNS_PORT))
    host, _, port = text.partition(":")
    return dns.nameserver.Do53Nameserver(host, int(port or DNS_PORT))
