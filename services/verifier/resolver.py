"""Asking DNS: configured servers, paced, cached by TTL, with TCP when a reply does not fit.

Every outcome is a value of `core.answer`; nothing here raises for what the network does. Forged replies must guess the
port, the ID and the case of the question's letters; a reply whose case differs is asked for again over TCP.
"""

import asyncio
import ipaddress
import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver

from services.verifier.core.answer import Absent, Answer, Evidence, Question, Records, Unknown
from services.verifier.dns_reply import Elsewhere, name_of, read

CHAIN_LIMIT = 8
"""CNAMEs followed by us, beyond those a server follows by itself."""
PAYLOAD_OCTETS = 1232  # fits one packet everywhere, so that no fragment can be forged
DEMOTED_SECONDS = 30.0
"""How long a server that did not answer is asked last."""
LOOKED_UP_SECONDS = 60.0
"""How long the address of a server that was given by name is kept."""


@dataclass(frozen=True, kw_only=True)
class QueryLimits:
    """How hard the servers may be asked."""

    timeout_seconds: float = 2.0
    """Of one exchange."""
    tries: int = 2
    """Rounds over all servers."""
    per_second: float = 100.0
    in_flight: int = 200
    cached_questions: int = 20_000
    cache_seconds: float = 300.0
    """No answer is kept longer, whatever its TTL."""
    unknown_seconds: float = 5.0
    """How long it is remembered that nobody could answer."""
    trust_bare: bool = False


class Pace:
    """Lets at most `per_second` pass on average, with bursts of as many as one second allows."""

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._gap = 1 / per_second
        self._now = now
        self._next = now()

    @property
    def backlog_seconds(self) -> float:
        """How long the next one would wait."""
        return max(self._next - self._now(), 0.0)

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = self._now()
        self._next = max(self._next, now - 1.0) + self._gap
        if self._next > now:
            await asyncio.sleep(self._next - now)


@dataclass
class Counters:
    """What was asked of the network, for metrics."""

    sent: int = 0
    cached: int = 0
    unanswered: int = 0
    by_server: dict[str, int] = field(default_factory=dict)


class Resolver:
    """Asks the configured servers; owns a cache and nothing that needs closing."""

    def __init__(self, servers: Sequence[str], limits: QueryLimits | None = None) -> None:
        self.servers = [Server(text) for text in servers]
        self.limits = limits or QueryLimits()
        self.counters = Counters()
        self._pace = Pace(self.limits.per_second)
        self._slots = asyncio.Semaphore(self.limits.in_flight)
        self._cache: OrderedDict[Question, tuple[float, Answer]] = OrderedDict()
        self._flying: dict[Question, asyncio.Future[Answer]] = {}

    @property
    def backlog_seconds(self) -> float:
        """How long a question waits for its turn now."""
        return self._pace.backlog_seconds

    async def ask(self, question: Question, *, fresh: bool = False, first: int = 0) -> Answer:
        """Answer a question, from the cache unless `fresh`; `first` is the index of the server to begin with."""
        if fresh or first:
            return self._remember(question, await self._resolve(question, first))
        while True:
            cached = self._cache.get(question)
            if cached is not None and cached[0] > time.monotonic():
                self.counters.cached += 1
                return cached[1]
            flying = self._flying.get(question)
            if flying is None:
                return await self._fly(question)
            await asyncio.wait([flying])
            if not flying.cancelled():
                return flying.result()

    async def ask_at(self, address: str, port: int, question: Question) -> Answer:
        """Ask one server, past the cache, within the same limits."""
        name = name_of(question.name)
        if name is None:
            return Absent(Evidence(rcode="not asked"))
        server = Server(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        answer = await self._ask_server(server, question, name)
        if isinstance(answer, Elsewhere):
            return await self.ask(Question(answer.name, question.kind))
        return answer

    def holds(self, question: Question) -> bool:
        """Tell whether the cache has an answer."""
        cached = self._cache.get(question)
        return cached is not None and cached[0] > time.monotonic()

    async def _fly(self, question: Question) -> Answer:
        """Ask, and let all who ask the same meanwhile share the answer."""
        flying: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._flying[question] = flying
        try:
            answer = self._remember(question, await self._resolve(question, 0))
            flying.set_result(answer)
            return answer
        finally:
            del self._flying[question]
            flying.cancel()  # without effect once it has its result

    def _remember(self, question: Question, answer: Answer) -> Answer:
        if isinstance(answer, Unknown):
            seconds = self.limits.unknown_seconds
        else:
            seconds = min(float(answer.evidence.ttl or 0), self.limits.cache_seconds)
        if seconds > 0:
            self._cache[question] = (time.monotonic() + seconds, answer)
            self._cache.move_to_end(question)
            while len(self._cache) > self.limits.cached_questions:
                self._cache.popitem(last=False)
        else:
            self._cache.pop(question, None)
        return answer

    async def _resolve(self, question: Question, first: int) -> Answer:
        """Ask server after server until one knows, following CNAMEs a server does not follow itself."""
        name, ttl = question.name, None
        for _ in range(CHAIN_LIMIT):
            answer = await self._ask_round(Question(name, question.kind), first)
            if not isinstance(answer, Elsewhere):
                return _at_end_of_chain(answer, name if name != question.name else "", ttl)
            name = answer.name
            ttl = _least(ttl, answer.evidence.ttl)
        return Unknown(f"{question.name} leads through more than {CHAIN_LIMIT} CNAMEs", Evidence())

    async def _ask_round(self, question: Question, first: int) -> Answer | Elsewhere:
        name = name_of(question.name)
        if name is None:
            return Absent(Evidence(rcode="not asked"))  # a name that DNS cannot hold
        answer: Answer | Elsewhere = Unknown("no name server is configured", Evidence())
        order = self.servers[first:] + self.servers[:first]
        for _ in range(self.limits.tries):
            now = time.monotonic()
            for server in sorted(order, key=lambda s: s.demoted_until > now):
                answer = await self._ask_server(server, question, name)
                if not isinstance(answer, Unknown):
                    return answer
        return answer

    async def _ask_server(self, server: "Server", question: Question, name: dns.name.Name) -> Answer | Elsewhere:
        async with self._slots:
            await self._pace.turn()
            self.counters.sent += 1
            self.counters.by_server[server.text] = self.counters.by_server.get(server.text, 0) + 1
            try:
                reply = await server.exchange(name, question.kind, self.limits.timeout_seconds)
            except (dns.exception.Timeout, TimeoutError):
                server.demoted_until = time.monotonic() + DEMOTED_SECONDS
                self.counters.unanswered += 1
                evidence = Evidence(resolver=server.text, rcode="TIMEOUT")
                return Unknown("the name servers did not answer in time", evidence)
            except (OSError, EOFError, dns.exception.DNSException) as fault:
                self.counters.unanswered += 1
                evidence = Evidence(resolver=server.text, rcode="ERROR")
                return Unknown(f"the name server could not be asked ({type(fault).__name__})", evidence)
        return read(reply, question, server.text, trust_bare=self.limits.trust_bare)


class Server:
    """One DNS server, `address`, `address:port`, `[v6]:port` or `host:port`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.host, self.port = split_server(text)
        self.demoted_until = 0.0
        self._address: tuple[float, str] | None = None

    async def exchange(self, name: dns.name.Name, kind: str, timeout_seconds: float) -> dns.message.Message:
        """Ask one question over UDP, or over TCP if the reply was cut or may be forged.

        Errors: `dns.exception.DNSException`, `OSError`, `EOFError`.
        """
        query = dns.message.make_query(_mixed_case(name), kind, use_edns=0, payload=PAYLOAD_OCTETS)
        address = await self._where()
        deadline = time.monotonic() + timeout_seconds
        reply = await dns.asyncquery.udp(
            query, address, timeout_seconds, self.port, ignore_unexpected=True, ignore_errors=True
        )
        same_case = bool(reply.question) and reply.question[0].name.labels == query.question[0].name.labels
        if reply.flags & dns.flags.TC or not same_case:  # RFC 7766 §5
            left = max(deadline - time.monotonic(), 0.1)
            reply = await dns.asyncquery.tcp(query, address, left, self.port)
        return reply

    async def _where(self) -> str:
        """Return the server's address, looking a name up with the system's resolver now and then."""
        try:
            return str(ipaddress.ip_address(self.host))
        except ValueError:
            pass
        if self._address is None or self._address[0] < time.monotonic():
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)
            self._address = (time.monotonic() + LOOKED_UP_SECONDS, str(found[0][4][0]))
        return self._address[1]


def split_server(text: str) -> tuple[str, int]:
    """Split `host`, `host:port`, `[v6]` or `[v6]:port`; the port is 53 if none is given.

    Errors: `ValueError`.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not of the form [address]:port")
        port = rest[1:]
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{text!r} is not of the form host:port")
    return host, int(port or 53)


def system_servers() -> tuple[str, ...]:
    """Return the servers the operating system uses; () if it does not say."""
    try:
        return tuple(str(server) for server in dns.resolver.Resolver().nameservers)
    except dns.resolver.NoResolverConfiguration:
        return ()


def _mixed_case(name: dns.name.Name) -> dns.name.Name:
    """Return the name with letters in random case, which an honest server repeats."""
    dice = random.SystemRandom()
    text = [label.decode("latin-1") for label in name.labels]
    mixed = ["".join(c.swapcase() if c.isascii() and dice.random() < 0.5 else c for c in label) for label in text]
    return dns.name.Name([label.encode("latin-1") for label in mixed])


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _at_end_of_chain(answer: Answer, canonical: str, ttl: int | None) -> Answer:
    """Return an answer that was reached over CNAMEs with the end of the chain and the smallest TTL in its evidence."""
    if not canonical:
        return answer
    evidence = Evidence(
        resolver=answer.evidence.resolver,
        rcode=answer.evidence.rcode,
        ttl=_least(ttl, answer.evidence.ttl),
        canonical=answer.evidence.canonical or canonical,
    )
    match answer:
        case Records(values):
            return Records(values, evidence)
        case Absent():
            return Absent(evidence)
        case Unknown(why):
            return Unknown(why, evidence)
