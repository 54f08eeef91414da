"""A real ingress process for tests: its certificate, its directory, and the process itself."""

import asyncio
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import argon2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.command.ports import free_port
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract.records import (
    Authorization,
    Configuration,
    DirectoryRecord,
    Instance,
    Lane,
    Password,
    Questionnaire,
    Rule,
    RuleContext,
    Suspension,
    User,
    Zone,
    ZoneAddress,
)
from shared.contract.standing import Observation, Standing, StandingState
from tests.bus_server import BusServer

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
START_SECONDS = 60.0
PROBE_SECONDS = 20.0
QUESTIONNAIRE = Questionnaire(
    nature="transactional",
    website="https://shop.example",
    list_source="customers",
    bounces_and_complaints="removed at once",
    unsubscribe="link",
    quota_rationale="orders",
    list_cleaning="weekly",
    contacts=("ops@shop.example",),
    reply_to="ops@shop.example",
    only_to_requesters=True,
    unsubscribe_link=True,
)


def certificate(directory: Path, name: str = "mail.test") -> tuple[Path, Path]:
    """Write a self-signed certificate and its key; return the two files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(AT)
        .not_valid_after(AT + datetime.timedelta(days=36_500))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


class Tenants:
    """Writes a directory the way control does, and standings the way the verifier does."""

    def __init__(self, control: Bus, verifier: Bus) -> None:
        """Write through the connections of two rooms, which the caller closes."""
        self.directory: Bucket[DirectoryRecord] = Bucket(control, "directory", DirectoryRecord)
        self.standing: Bucket[Standing] = Bucket(verifier, "standing", Standing)

    async def instance(self, name: str) -> None:
        """Make an instance."""
        await self.directory.put(f"instance.{name}", Instance(id=name, name=name, created_at=AT))

    async def rule(self, instance: str, *networks: str, endpoints: tuple[str, ...] = ()) -> None:
        """Let networks reach an instance."""
        zone = Zone(
            id=f"zone-{instance}",
            instance=instance,
            name="office",
            addresses=tuple(ZoneAddress(type="subnet", value=network) for network in networks),
            created_at=AT,
            updated_at=AT,
        )
        await self.directory.put(f"zone.{zone.id}", zone)
        rule = Rule(
            id=f"rule-{instance}",
            instance=instance,
            contexts=(RuleContext(zones=(zone.id,), endpoints=endpoints),),  # type: ignore[arg-type]
            created_at=AT,
            updated_at=AT,
        )
        await self.directory.put(f"rule.{rule.id}", rule)

    async def configuration(
        self,
        instance: str,
        name: str,
        domain: str,
        state: StandingState | None = "verified",
        authorized: str = "approved",
        lane: Lane = "transactional",
        **more: object,
    ) -> Configuration:
        """Make a configuration in the given state."""
        configuration = Configuration(
            id=name,
            instance=instance,
            name=name,
            domain=domain,
            selector="s",
            dkim_value="v=DKIM1",
            spf_value="v=spf1 -all",
            created_at=AT,
            updated_at=AT,
            **more,  # type: ignore[arg-type]
        )
        await self.directory.put(f"configuration.{name}", configuration)
        if authorized:
            authorization = Authorization(
                configuration=name,
                instance=instance,
                status=authorized,  # type: ignore[arg-type]
                questionnaire=QUESTIONNAIRE,
                submitted_at=AT,
                lane=lane,
            )
            await self.directory.put(f"authorization.{name}", authorization)
        if state is not None:
            await self.stand(configuration, state)
        return configuration

    async def stand(self, configuration: Configuration, state: StandingState) -> None:
        """Set what the verifier holds of a configuration."""
        good = state in ("verified", "degraded")
        spf = Observation(
            verdict="pass" if good else "fail",
            detail="found" if good else f"no SPF record at {configuration.domain}",
            name=configuration.domain,
            at=AT,
        )
        record = Standing(
            configuration=configuration.id,
            instance=configuration.instance,
            domain=configuration.domain,
            state=state,
            reason="",
            since=AT,
            spf=spf,
        )
        await self.standing.put(configuration.id, record)

    async def suspend(self, configuration: str, reason: str) -> None:
        """Suspend a configuration as an operator."""
        suspension = Suspension(configuration=configuration, reason=reason, by="operator", at=AT)
        await self.directory.put(f"suspension.{configuration}", suspension)

    async def user(self, configuration: Configuration, username: str, hashed: str = "", **limits: Any) -> User:
        """Make a user whose password is `<username>-password`, with limits of its own."""
        user = User(
            id=f"u-{username}",
            instance=configuration.instance,
            configuration=configuration.id,
            username=username,
            passwords=(Password(id="p1", hash=hashed or CHEAP.hash(password_of(username)), created_at=AT),),
            created_at=AT,
            updated_at=AT,
            **limits,
        )
        await self.directory.put(f"user.{configuration.id}.{user.id}", user)
        return user


def password_of(username: str) -> str:
    """Return the password of a test's user."""
    return f"{username}-password"


class IngressProcess:
    """One ingress on free ports of loopback, as a child process; `stop` drains it."""

    def __init__(self, bus: BusServer, directory: Path, **settings: str) -> None:
        """Prepare; `settings` are names of ingress settings in lower case."""
        self.directory = directory
        self.certificate, self.key = certificate(directory)
        self.ports = {name: free_port() for name in ("public", "tls", "private", "health")}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("POSTLANE_")},
            **bus.environment("ingress"),
            "POSTLANE_HEALTH_LISTEN": f"127.0.0.1:{self.ports['health']}",
            "POSTLANE_INGRESS_HOST_NAME": "mail.test",
            "POSTLANE_INGRESS_PUBLIC_LISTEN": f"127.0.0.1:{self.ports['public']}",
            "POSTLANE_INGRESS_PUBLIC_TLS_LISTEN": f"127.0.0.1:{self.ports['tls']}",
            "POSTLANE_INGRESS_PRIVATE_LISTEN": f"127.0.0.1:{self.ports['private']}",
            "POSTLANE_INGRESS_TLS_CERTIFICATE_FILE": str(self.certificate),
            "POSTLANE_INGRESS_TLS_KEY_FILE": str(self.key),
            "POSTLANE_INGRESS_DRAIN_SECONDS": "5",
            "POSTLANE_INGRESS_FAILED_LOGIN_SECONDS": "0.02",
            "POSTLANE_INGRESS_FAILED_LOGIN_DELAY_SECONDS": "0",
            **{f"POSTLANE_INGRESS_{name.upper()}": value for name, value in settings.items()},
        }
        self.log = directory / "ingress.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start it and wait until it is ready."""
        program = "import os, sys; from services.ingress.app import main; sys.exit(main(os.environ))"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program], env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if self.health("/readyz") == 200:
                return
            time.sleep(0.05)
        raise AssertionError(f"ingress did not become ready:\n{self.log.read_text()}")

    def health(self, path: str) -> int:
        """Return the status of a health page, 0 if nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["health"]), PROBE_SECONDS) as probe:
                probe.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return int(probe.recv(1024).split(b" ", 2)[1])
        except (OSError, IndexError, ValueError):
            return 0

    def waiting_for(self) -> dict[str, str]:
        """Return why it is not ready, by condition."""
        with socket.create_connection(("127.0.0.1", self.ports["health"]), PROBE_SECONDS) as probe:
            probe.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            found: dict[str, str] = json.loads(probe.makefile("rb").read().partition(b"\r\n\r\n")[2])["waiting_for"]
            return found

    def figure(self, name: str) -> float:
        """Return a metric without labels."""
        return next(float(line.split(" ")[1]) for line in self.metrics() if line.startswith(f"{name} "))

    def metrics(self) -> list[str]:
        """Return the lines of the page of metrics."""
        with socket.create_connection(("127.0.0.1", self.ports["health"]), PROBE_SECONDS) as probe:
            probe.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return probe.makefile("rb").read().decode().splitlines()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """Tell it to stop and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def client_context() -> ssl.SSLContext:
    """Return a context that takes the test's certificate without question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def seeded(bus: BusServer) -> None:
    """Write the tenants most tests use.

    Instance `a`: `shop.example` with alice, gina (limited senders, recipients) and glen (a network elsewhere),
    `second.example` (alice again, a clone), and one configuration in each state a sender can be in; reachable from
    127.0.0.1. Instance `b`: `rival.example` with bob, no rule. Instance
    `c`: `inside.example` with carol, private endpoint only.
    """
    control, verifier = await asyncio.gather(bus.connect("control"), bus.connect("verifier"))
    try:
        tenants = Tenants(control, verifier)
        for name in ("a", "b", "c"):
            await tenants.instance(name)
        await tenants.rule("a", "127.0.0.1/32")
        await tenants.rule("c", "127.0.0.0/8", endpoints=("private",))
        shop = await tenants.configuration("a", "shop", "shop.example")
        alice = await tenants.user(shop, "alice")
        second = await tenants.configuration("a", "second", "second.example")
        await tenants.user(second, "alice", alice.passwords[0].hash)
        await tenants.user(await tenants.configuration("a", "pending", "pending.example", "pending"), "pat")
        await tenants.user(await tenants.configuration("a", "asked", "asked.example", authorized="submitted"), "ann")
        await tenants.user(await tenants.configuration("a", "held", "held.example", "suspended"), "hal")
        await tenants.user(
            await tenants.configuration("a", "barred", "barred.example", "suspended", when_suspended="refuse"), "ben"
        )
        await tenants.user(await tenants.configuration("a", "stopped", "stopped.example"), "sam")
        await tenants.suspend("stopped", "complaints about unwanted mail")
        await tenants.user(await tenants.configuration("a", "files", "files.example", attachments_allowed=True), "fay")
        news = await tenants.configuration(
            "a", "news", "news.example", lane="marketing", html_policy="refuse", unsubscribe_policy="refuse"
        )
        await tenants.user(news, "nell")
        await tenants.user(await tenants.configuration("a", "umlaut", "xn--bcher-kva.example"), "uma")
        await tenants.user(await tenants.configuration("a", "drafts", "drafts.example", html_policy="warn"), "dora")
        await tenants.user(
            shop, "gina", senders=("jira@shop.example", "*-bot@shop.example"), recipients=("*@client.example",)
        )
        await tenants.user(shop, "glen", networks=("192.0.2.0/24",))
        await tenants.user(await tenants.configuration("b", "rival", "rival.example"), "bob")
        await tenants.user(await tenants.configuration("c", "inside", "inside.example"), "carol")
    finally:
        await control.close()
        await verifier.close()
