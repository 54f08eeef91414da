"""An authoritative name server over UDP and TCP for the names in the zones file.

It plays the whole of DNS: a name that is not in the file does not exist. The file is read again when it has changed.
"""

import asyncio
import logging
import os
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from services.sandbox import zones
from services.sandbox.core.lookup import Answer, Found, Name, ZoneData
from services.sandbox.listener import Listener
from services.sandbox.zones import ZoneFault

log = logging.getLogger("sandbox")

PLAIN_UDP_OCTETS = 512  # RFC 1035 §4.2.1
EDNS_UDP_OCTETS = 1232
PORT_TRIES = 20
SETTING = "POSTLANE_SANDBOX_DNS_LISTEN"
SYNTHETIC_SOA = "ns.sandbox.invalid. hostmaster.sandbox.invalid. 1 3600 600 86400 {ttl}"
"""Authority of negative answers where the file has no SOA; its last field is the TTL they are kept (RFC 2308 §5)."""


class Served:
    """The zones file in memory, as new as the file at each question."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._version: tuple[int, int, int] | None = (0, 0, 0)
        self._data = ZoneData({})

    def data(self) -> ZoneData:
        """Return the present zones; a file that cannot be read leaves the last good ones in place."""
        try:
            status = os.stat(self._directory / zones.FILE)
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            version = None
        if version != self._version:
            self._version = version
            try:
                self._data = zones.compiled(zones.read(self._directory))
            except ZoneFault as fault:
                log.error("the last good zones stay in place: %s", fault)
        return self._data


class Responder:
    """Turns a question's octets into an answer's; a pretended time-out is no answer."""

    def __init__(self, served: Served, ttl_seconds: int) -> None:
        self._served = served
        self._ttl_seconds = ttl_seconds

    def answer(self, wire: bytes, udp: bool) -> tuple[bytes | None, int]:
        """Return the answer, or None for silence, and the seconds to wait before sending it."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _format_error(wire), 0
        if query.flags & dns.flags.QR:
            return None, 0  # an answer to an answer could go round in circles
        response = dns.message.make_response(query, our_payload=EDNS_UDP_OCTETS)
        wait = 0
        if query.edns > 0:
            response.set_rcode(dns.rcode.BADVERS)  # RFC 6891 §6.1.3
        elif query.opcode() != dns.opcode.QUERY:
            response.set_rcode(dns.rcode.NOTIMP)
        elif len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
        elif query.question[0].rdclass != dns.rdataclass.IN or query.question[0].rdtype in {
            dns.rdatatype.AXFR,
            dns.rdatatype.IXFR,
        }:
            response.set_rcode(dns.rcode.REFUSED)
        else:
            question = query.question[0]
            kind = dns.rdatatype.to_text(question.rdtype)
            found = self._served.data().look_up(_name_of(question.name), kind)
            if found.fault is not None and found.fault.kind == "TIMEOUT":
                return None, 0
            self._fill(response, found)
            wait = found.fault.seconds if found.fault is not None else 0
        limit = 65535
        if udp:
            limit = PLAIN_UDP_OCTETS if query.edns < 0 else min(max(query.payload, PLAIN_UDP_OCTETS), EDNS_UDP_OCTETS)
        return response.to_wire(max_size=limit, prefer_truncation=True), wait

    def _fill(self, response: dns.message.Message, found: Answer) -> None:
        for item in found.found:
            response.answer.append(self._rrset(item))
        match found.fault:
            case None:
                pass
            case fault if fault.kind == "SERVFAIL":
                response.set_rcode(dns.rcode.SERVFAIL)
                return
            case fault if fault.kind == "REFUSED":
                response.set_rcode(dns.rcode.REFUSED)
                return
            case fault if fault.kind == "LAME":  # an answer of a server that does not know the zone
                return
        response.flags |= dns.flags.AA
        if found.kind == "nxdomain":
            response.set_rcode(dns.rcode.NXDOMAIN)
        if found.kind != "data":
            response.authority.append(self._authority(found.start_of_authority))

    def _rrset(self, item: Found) -> dns.rrset.RRset:
        ttl = self._ttl_seconds if item.records.ttl_seconds is None else item.records.ttl_seconds
        rdatas = [zones.rdata_of(item.type, value) for value in item.records.values]
        return dns.rrset.from_rdata_list(_dns_name(item.owner), ttl, rdatas)

    def _authority(self, item: Found | None) -> dns.rrset.RRset:
        if item is not None:
            return self._rrset(item)
        rdata = zones.rdata_of("SOA", SYNTHETIC_SOA.format(ttl=self._ttl_seconds))
        return dns.rrset.from_rdata_list(dns.name.root, self._ttl_seconds, [rdata])


def _name_of(name: dns.name.Name) -> Name:
    return tuple(label.decode("latin-1").lower() for label in name.labels if label)


def _dns_name(name: Name) -> dns.name.Name:
    return dns.name.Name([*(label.encode("latin-1") for label in name), b""])


def _format_error(wire: bytes) -> bytes | None:
    """Answer what cannot be read by its identifier, or not at all if it has none or is an answer."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    response = dns.message.Message(id=int.from_bytes(wire[:2], "big"))
    response.flags |= dns.flags.QR
    response.set_rcode(dns.rcode.FORMERR)
    return response.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, responder: Responder) -> None:
        self._responder = responder
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # as it is
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer, wait = self._responder.answer(data, udp=True)
        if answer is not None:
            asyncio.get_running_loop().call_later(wait, self._transport.sendto, answer, addr)


class NameServer:
    """Listens on one port, UDP and TCP; closed by its owner."""

    def __init__(self, directory: Path, ttl_seconds: int, idle_seconds: int) -> None:
        self._responder = Responder(Served(directory), ttl_seconds)
        self._idle_seconds = idle_seconds
        self._datagrams: asyncio.BaseTransport | None = None
        self._streams = Listener("DNS", SETTING, self._converse)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (0 takes one that is free for both).

        Errors: `CannotListen`.
        """
        loop = asyncio.get_running_loop()
        for tries_left in reversed(range(PORT_TRIES if port == 0 else 1)):
            chosen = await self._streams.start(host, port)
            try:
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._responder), local_addr=(host, chosen)
                )
            except OSError as fault:  # free for TCP, not for UDP
                await self._streams.close()
                if not tries_left:
                    raise self._streams.refused(host, chosen, fault) from fault
            else:
                break
        return chosen

    async def close(self) -> None:
        """Stop answering."""
        if self._datagrams is not None:
            self._datagrams.close()
        await self._streams.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    length = int.from_bytes(await reader.readexactly(2), "big")  # RFC 1035 §4.2.2
                    query = await reader.readexactly(length)
            except TimeoutError:
                return
            answer, wait = self._responder.answer(query, udp=False)
            await asyncio.sleep(wait)
            if answer is not None:
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
