"""Verifiers as processes, between a real nats-server and a real DNS server on loopback."""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract.errors import BusUnavailable
from shared.contract.records import Configuration, DirectoryRecord, Record
from shared.contract.standing import Standing, StandingState
from tests.bus_server import BusServer
from tests.dns_server import DnsServer
from tests.patience import until_seen

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = "v=DKIM1; k=rsa; p=" + base64.b64encode(bytes(range(256)) + b"a key of the size of ours").decode()
SPF = "v=spf1 include:spf.postlane.example -all"
SECONDS = 60.0

RUN = "import os, sys; from services.verifier.app import main; sys.exit(main(os.environ, None))"


def configuration(name: str = "c-1", domain: str = "tenant.example") -> Configuration:
    return Configuration(
        id=name, instance="i-1", name=name, domain=domain, selector="s1", dkim_value=KEY, spf_value=SPF,
        created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def publish(dns: DnsServer, domain: str = "tenant.example") -> None:
    """Publish what the customer was told to publish."""
    dns.set("spf.postlane.example", "TXT", "v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 -all")
    dns.set(domain, "A", "192.0.2.80")
    dns.set(domain, "TXT", SPF)
    dns.set(f"s1._domainkey.{domain}", "TXT", KEY)


class World:
    """A bus, a DNS server, and verifiers started and killed by the test."""

    def __init__(self, server: BusServer, dns: DnsServer, control: Bus, logs: Path) -> None:
        self.server = server
        self.dns = dns
        self.control = control
        self.directory: Bucket[Record] = Bucket(control, "directory", DirectoryRecord)
        self.standing: Bucket[Standing] = Bucket(control, "standing", Standing)
        self.logs = logs
        self.processes: list[asyncio.subprocess.Process] = []

    async def verifier(self, **settings: str) -> asyncio.subprocess.Process:
        """Start a replica with intervals of a test's size."""
        chosen = {
            "RESOLVERS": self.dns.where, "EGRESS_ADDRESSES": "192.0.2.1,192.0.2.2", "PENDING_SECONDS": "0.2",
            "VERIFIED_SECONDS": "0.4", "DEGRADED_SECONDS": "0.2", "GRACE_SECONDS": "0.5", "FAILURES_TO_SUSPEND": "3",
            "FIRST_CHECK_SPREAD_SECONDS": "0", "DNS_TIMEOUT_SECONDS": "4", "DNS_TRIES": "1", "LEASE_SECONDS": "10",
            "CHECK_TIMEOUT_SECONDS": "5", "STALE_SECONDS": "60", **settings,
        }  # fmt: skip
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")},
            **{n: v for n, v in self.server.environment("verifier").items() if n.startswith("POSTLANE_BUS_")},
            **{f"POSTLANE_VERIFIER_{name}": value for name, value in chosen.items()},
            "POSTLANE_HEALTH_LISTEN": "",
        }
        with (self.logs / f"verifier-{len(self.processes)}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", RUN, env=environ, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    async def present(self, name: str) -> Standing | None:
        """Return a standing, None if there is none or the bus is away."""
        try:
            entry = await self.standing.get(name)
        except BusUnavailable:
            return None
        return entry.record if entry else None

    async def until(self, name: str, *states: StandingState, seconds: float = SECONDS) -> Standing:
        """Wait until a configuration has a standing of one of these states.

        One that the next check may end can be over before it is looked at: then the state after it is named too.
        """
        last: Standing | None = None

        async def is_so() -> bool:
            nonlocal last
            last = await self.present(name)
            return last is not None and last.state in states

        try:
            await until_seen(f"{name} becomes {' or '.join(states)}", is_so, seconds)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; it is {last}\n{self.told()}") from None
        assert last is not None
        return last

    async def checked_again(self, name: str, times: int = 3, seconds: float = SECONDS) -> Standing:
        """Wait until the configuration has been checked so many times from now on."""
        seen: list[Standing] = []

        async def so_many() -> bool:
            present = await self.present(name)
            if present is not None and present.checked_at not in [each.checked_at for each in seen]:
                seen.append(present)
            return len(seen) > times

        await until_seen(f"{name} is checked {times} times", so_many, seconds)
        return seen[-1]

    async def until_gone(self, name: str) -> None:
        """Wait until a configuration has no standing any more."""

        async def gone() -> bool:
            return await self.standing.get(name) is None

        await until_seen(f"the standing of {name} goes", gone, SECONDS)

    def told(self) -> str:
        """Return the logs of all replicas."""
        return "\n".join(path.read_text() for path in sorted(self.logs.glob("verifier-*.log")))


@asynccontextmanager
async def world_of(server: BusServer, logs: Path) -> AsyncIterator[World]:
    async with DnsServer() as dns:
        control = await server.connect("control")
        world = World(server, dns, control, logs)
        publish(dns)
        try:
            yield world
        finally:
            for process in world.processes:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
            for process in world.processes:
                await asyncio.wait_for(process.wait(), SECONDS)
            await control.close()


async def heard(bus: Bus, subject: str) -> list[dict[str, object]]:
    """Collect the events of a subject from now on."""
    events: list[dict[str, object]] = []

    async def take(_subject: str, body: bytes) -> None:
        events.append(json.loads(body))

    await bus.listen(subject, take)
    await bus.reached()
    return events
