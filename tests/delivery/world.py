"""Everything around a delivery: bus, tenant, DNS, one exchanger for `rcpt.test`."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.delivery.settings import DeliverySettings
from tests.bus_server import BusServer
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import Tenant, Watcher, delivery_settings
from tests.dns_server import DnsServer

PROGRAM = "import os, sys; from services.delivery.app import main; sys.exit(main(os.environ))"


class World:
    """What a test of a whole delivery needs."""

    def __init__(
        self, server: BusServer, tenant: Tenant, watcher: Watcher, dns: DnsServer, exchanger: Exchanger, directory: Path
    ) -> None:
        self.server = server
        self.tenant = tenant
        self.watcher = watcher
        self.dns = dns
        self.exchanger = exchanger
        self.directory = directory

    def settings(self, **more: object) -> DeliverySettings:
        """Return settings that lead to this world."""
        return delivery_settings(self.directory, resolvers=(self.dns.where,), mx_port=self.exchanger.port, **more)

    def process(self, *, quiet: bool = False, program: str = PROGRAM, **more: str) -> subprocess.Popen[bytes]:
        """Start a delivery of its own process that leads to this world; `more` are settings. Its caller ends it."""
        environ = self.server.environment("delivery") | {
            "POSTLANE_DELIVERY_MASTER_KEY_FILE": str(self.settings().master_key_file),
            "POSTLANE_DELIVERY_RESOLVERS": self.dns.where,
            "POSTLANE_DELIVERY_MX_PORT": str(self.exchanger.port),
            "POSTLANE_DELIVERY_ALLOWED_NETWORKS": "127.0.0.0/8",
            "POSTLANE_DELIVERY_EHLO_NAME": "relay.test",
            **{f"POSTLANE_DELIVERY_{name.upper()}": value for name, value in more.items()},
        }
        said = subprocess.DEVNULL if quiet else None
        return subprocess.Popen([sys.executable, "-c", program], env=os.environ | environ, stderr=said)


@asynccontextmanager
async def made(server: BusServer, directory: Path) -> AsyncIterator[World]:
    """Make a world with a tenant that may send, and end it."""
    tenant = Tenant(server)
    await tenant.open()
    bus = await server.connect("delivery")
    async with DnsServer() as dns, Exchanger(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8")) as exchanger:
        dns.set("rcpt.test", "MX", "10 mx.rcpt.test.")
        dns.set("mx.rcpt.test", "A", "127.0.0.1")
        yield World(server, tenant, Watcher(bus, server), dns, exchanger, directory)
    await bus.close()
    await tenant.close()
