"""Looks up mail exchangers and their addresses through dnspython, and turns every outcome into a value of `core.route`.

NXDOMAIN and "no data" are facts; SERVFAIL, refusals, time-outs and garbage are not knowing.
"""

import asyncio
import contextlib

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

from services.delivery.core.route import AddressAnswer, Found, MxAnswer, MxFound, NoAnswer, NoData, NoName
from services.delivery.settings import DeliverySettings

DNS_PORT = 53
EDNS_PAYLOAD = 1232


class Exchangers:
    """Asks the configured resolvers; answers are kept for their TTL. Owns no socket between questions."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not settings.resolvers)
        if settings.resolvers:
            self._resolver.nameservers = [_nameserver(text) for text in settings.resolvers]
        self._resolver.lifetime = settings.dns_timeout_seconds
        self._resolver.timeout = min(2.0, settings.dns_timeout_seconds / 2)  # one try, so that others follow in time
        self._resolver.cache = dns.resolver.LRUCache(settings.dns_cache_entries)
        self._resolver.use_edns(0, 0, EDNS_PAYLOAD)
        self._resolver.search = []

    async def mx(self, domain: str) -> MxAnswer:
        """Return the MX records of a domain."""
        answer = await self._ask(domain, dns.rdatatype.MX)
        if not isinstance(answer, dns.resolver.Answer):
            return answer
        records = [(int(r.preference), r.exchange.to_text(omit_final_dot=True)) for r in answer]
        # The root, "." in the zone, is the null MX.
        return MxFound(tuple((preference, "" if host in (".", "@") else host) for preference, host in records))

    async def addresses(self, host: str) -> tuple[AddressAnswer, AddressAnswer]:
        """Return the IPv6 and the IPv4 addresses of a host."""
        six, four = await asyncio.gather(self._ask(host, dns.rdatatype.AAAA), self._ask(host, dns.rdatatype.A))
        return _texts(six), _texts(four)

    async def texts(self, name: str) -> tuple[str, ...]:
        """Return the TXT values of a name, strings joined; none if there are none or nobody knows."""
        answer = await self._ask(name, dns.rdatatype.TXT)
        if not isinstance(answer, dns.resolver.Answer):
            return ()
        return tuple(b"".join(record.strings).decode("utf-8", "replace") for record in answer)

    def forget(self) -> None:
        """Drop every kept answer."""
        if self._resolver.cache is not None:
            self._resolver.cache.flush()

    async def _ask(
        self, name: str, kind: dns.rdatatype.RdataType
    ) -> "dns.resolver.Answer | NoData | NoName | NoAnswer":
        try:
            # Absolute: no search list may turn a foreign name into one of ours.
            return await self._resolver.resolve(name + ".", kind, search=False)
        except dns.resolver.NXDOMAIN:
            return NoName()
        except dns.resolver.NoAnswer:
            return NoData()
        except dns.resolver.LifetimeTimeout:
            return NoAnswer("the name servers did not answer in time")
        except dns.resolver.NoNameservers as fault:
            return NoAnswer(_reason(fault))
        except (dns.exception.DNSException, OSError) as fault:
            return NoAnswer(type(fault).__name__)


def _texts(answer: "dns.resolver.Answer | NoData | NoName | NoAnswer") -> AddressAnswer:
    if isinstance(answer, dns.resolver.Answer):
        return Found(tuple(r.address for r in answer))
    return answer


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
