"""A scripted DNS server for tests: real packets over UDP and TCP on loopback, with every misbehaviour tests need."""

import asyncio
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self, cast

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from services.command.ports import free_port

Fault = Literal[
    "SERVFAIL", "BOGUS", "REFUSED", "NXDOMAIN", "NODATA", "TIMEOUT", "TRUNCATED", "LAME", "EMPTY", "WRONG_ID",
    "GARBAGE", "WRONG_QUESTION", "LOWER_CASE", "FORGED_FIRST",
]  # fmt: skip
SOA = "ns.test. hostmaster.test. 1 3600 600 86400 {ttl}"


class DnsServer:
    """Answers from a zone that tests change at will; names absent from it do not exist."""

    def __init__(self, ttl: int = 0, host: str = "127.0.0.1", port: int = 0) -> None:
        self.ttl = ttl
        self.host = host
        self.records: dict[tuple[str, str], list[str]] = {}
        self.faults: dict[tuple[str, str], Fault] = {}
        self.asked: list[tuple[str, str, str]] = []
        """Name, kind and transport of every question."""
        self.alias_only = False
        """Aliases are not followed."""
        self.port = port
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    @property
    def where(self) -> str:
        """`host:port` of the server."""
        return f"{self.host}:{self.port}"

    def set(self, name: str, kind: str, *values: str) -> None:
        """Publish records in zone-file form; a TXT without quotes is quoted, in strings of 255."""
        if kind == "TXT":
            values = tuple(v if v.startswith('"') else quoted(v) for v in values)
        self.records[name.lower(), kind] = list(values)

    def remove(self, name: str, kind: str) -> None:
        """Withdraw records; the name remains if it has others."""
        self.records.pop((name.lower(), kind), None)

    def fail(self, name: str, fault: Fault | None, kind: str = "") -> None:
        """Misbehave for a name (all kinds, or one), or stop doing so with None."""
        if fault is None:
            self.faults.pop((name.lower(), kind), None)
        else:
            self.faults[name.lower(), kind] = fault

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        # One of its own: of those that the kernel chooses, a client may have the same for UDP or on another address.
        self.port = self.port or free_port(udp_too=True)
        self._tcp = await asyncio.start_server(self._serve_stream, self.host, self.port)
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._serve_datagram), local_addr=(self.host, self.port)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._udp is not None
        assert self._tcp is not None
        self._udp.close()
        self._tcp.close()

    def _serve_datagram(self, transport: asyncio.DatagramTransport, packet: bytes, peer: tuple[str, int]) -> None:
        for reply in self._replies(packet, "udp"):
            transport.sendto(reply, peer)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            for reply in self._replies(await reader.readexactly(length), "tcp"):
                writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _replies(self, packet: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        fault = self.faults.get((name, kind)) or self.faults.get((name, ""))
        reply = dns.message.make_response(query, recursion_available=True)
        match fault:
            case "TIMEOUT":
                return []
            case "SERVFAIL" | "REFUSED" | "NXDOMAIN":
                reply.set_rcode(dns.rcode.from_text(fault))
                if fault == "NXDOMAIN":
                    self._negative(reply, question.name)
            case "BOGUS":
                reply.set_rcode(dns.rcode.SERVFAIL)
                reply.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)])
            case "NODATA":
                self._negative(reply, question.name)
            case "LAME":
                reply.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.elsewhere.test."))
            case "EMPTY":
                pass
            case "TRUNCATED":
                if transport == "tcp":
                    return []
                reply.flags |= dns.flags.TC
            case "GARBAGE":
                return [b"\x00\x01garbage"]
            case "WRONG_QUESTION":
                reply = dns.message.make_response(dns.message.make_query("other.test.", kind, id=query.id))
                reply.answer.append(dns.rrset.from_text("other.test.", 60, "IN", "TXT", '"v=spf1 +all"'))
            case _:
                self._honest(reply, question.name, kind)
        if fault == "WRONG_ID":
            reply.id ^= 0x5555
        if fault == "LOWER_CASE" and transport == "udp":
            reply = _lowered(reply)
        wire = reply.to_wire(max_size=65535)
        if fault == "FORGED_FIRST" and transport == "udp":
            forged = dns.message.make_response(query)
            forged.id ^= 0x1111
            forged.answer.append(dns.rrset.from_text(question.name, 60, "IN", "TXT", '"v=spf1 +all"'))
            return [forged.to_wire(), wire]
        limit = query.payload or 512
        if transport == "udp" and len(wire) > limit:
            cut = dns.message.make_response(query, recursion_available=True)
            cut.flags |= dns.flags.TC
            return [cut.to_wire()]
        return [wire]

    def _honest(self, reply: dns.message.Message, name: dns.name.Name, kind: str) -> None:
        at = name
        for _ in range(20):
            key = at.to_text(omit_final_dot=True).lower()
            if values := self.records.get((key, kind)):
                reply.answer.append(dns.rrset.from_text_list(at, self.ttl, "IN", kind, values))
                return
            alias = self.records.get((key, "CNAME"))
            if not alias:
                break
            reply.answer.append(dns.rrset.from_text_list(at, self.ttl, "IN", "CNAME", alias))
            if self.alias_only:
                return
            at = dns.name.from_text(alias[0])
        key = at.to_text(omit_final_dot=True).lower()
        if not any(n == key or n.endswith("." + key) for n, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self._negative(reply, at)

    def _negative(self, reply: dns.message.Message, name: dns.name.Name) -> None:
        zone = dns.name.Name(name.labels[-2:])
        reply.authority.append(dns.rrset.from_text(zone, self.ttl, "IN", "SOA", SOA.format(ttl=self.ttl)))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, serve: Callable[[asyncio.DatagramTransport, bytes, tuple[str, int]], None]) -> None:
        self._serve = serve
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # the selector's does not inherit from it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._serve(self._transport, data, addr)


def quoted(text: str, at: int = 255) -> str:
    """Return a TXT value in zone-file form, in strings of at most `at` octets."""
    pieces = [text[i : i + at] for i in range(0, len(text), at)] or [""]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)


def _lowered(reply: dns.message.Message) -> dns.message.Message:
    question = reply.question[0]
    name = dns.name.from_text(question.name.to_text().lower())
    reply.question[0] = dns.rrset.RRset(name, question.rdclass, question.rdtype)
    return reply
