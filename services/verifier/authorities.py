"""Asking the name servers of a zone themselves, past every cache, to see which of them serves what.

The addresses come from a tenant's DNS, so only public ones are asked, and those of networks the settings name.
"""

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from services.verifier.core.answer import Answer, Kind, Question, Records
from services.verifier.resolver import Resolver

SERVER_LIMIT = 8
ADDRESS_KINDS: tuple[Kind, ...] = ("A", "AAAA")


class Served(NamedTuple):
    """What one name server of the zone answered."""

    server: str
    """Its name and the address that was asked."""
    answer: Answer


class Authorities:
    """Finds and asks the servers of the zone a name lies in."""

    def __init__(self, resolver: Resolver, port: int, networks: Sequence[str]) -> None:
        self._resolver = resolver
        self._port = port
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)

    async def ask(self, question: Question) -> tuple[Served, ...]:
        """Ask each server of the zone, at most eight, side by side; () if none could be found."""
        servers = (await self._servers(question.name))[:SERVER_LIMIT]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._one(server, question)) for server in servers]
        return tuple(served for task in asked if (served := task.result()) is not None)

    async def _servers(self, name: str) -> tuple[str, ...]:
        labels = name.split(".")
        for start in range(len(labels) - 1):  # never the top-level domain's own servers
            answer = await self._resolver.ask(Question(".".join(labels[start:]), "NS"))
            if isinstance(answer, Records):
                return answer.values
        return ()

    async def _one(self, server: str, question: Question) -> Served | None:
        for kind in ADDRESS_KINDS:
            found = await self._resolver.ask(Question(server, kind))
            for address in found.values if isinstance(found, Records) else ():
                if self._may_ask(address):
                    answer = await self._resolver.ask_at(address, self._port, question)
                    return Served(f"{server} ({address})", answer)
        return None

    def _may_ask(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        plain = mapped or parsed
        return (plain.is_global and not plain.is_multicast) or any(plain in network for network in self._networks)
