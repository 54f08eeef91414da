"""Accept and relay, beside Postfix with OpenDKIM on the same machine, in pairs: one run here, one run there.

Run: `python -m benchmarks.relay [CASE …] [--runs 5]`. Everything is on: TLS, AUTH, policy, storage synced to disk, a
DKIM signature with RSA-2048, status and tracker here; TLS, AUTH, Postfix's own syncs and OpenDKIM there. Both relay in
clear to one `smtp-sink`. A run lasts from the first connection to the last arrival at the sink. Prints, per case,
messages a second of both, the ratio of each pair, and the processor time of a message by part.
"""

import argparse
import asyncio
import base64
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.ingress import OWASP, USER
from benchmarks.postfix_peer import OpenDkim, PostfixPeer
from benchmarks.smtp_load import Server, Session, at_once, cpu_seconds, machine, message, yardstick
from services.command.ports import free_port
from shared.bus.kv import Bucket
from shared.bus.settings import Topology
from shared.contract.records import Configuration, DkimKey
from shared.runtime.sealing import seal
from tests.bus_server import BusServer, started
from tests.dns_server import DnsServer
from tests.ingress_process import IngressProcess, Tenants, password_of, seeded
from tests.judges.debian import environment, unpacked
from tests.judges.smart_hosts import OWNER

MASTER_KEY = b"m" * 32
PATIENCE_SECONDS = 120.0
DELIVERY = "import os, sys; from services.delivery.app import main; sys.exit(main(os.environ))"
TRACKER = "import os, sys; from services.tracker.app import main; sys.exit(main(os.environ))"


class Case(NamedTuple):
    """A load: so many clients, each so many messages, in one session or one session each."""

    what: str
    clients: int
    messages: int
    reused: bool


CASES = {
    "sessions": Case("STARTTLS + AUTH session per message, 10 clients", 10, 30, reused=False),
    "reused-10": Case("reused TLS sessions, 10 clients", 10, 120, reused=True),
    "reused-50": Case("reused TLS sessions, 50 clients", 50, 40, reused=True),
}


class Sink:
    """Postfix's `smtp-sink`, which takes everything and counts."""

    def __init__(self) -> None:
        """Start it."""
        self.port = free_port()
        self.count = 0
        root = unpacked("postfix")
        self._process = subprocess.Popen(
            [str(root / "usr/sbin/smtp-sink"), "-u", OWNER, "-c", f"127.0.0.1:{self.port}", "1000"],
            stdout=subprocess.PIPE,
            env=environment(root),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while part := os.read(self._process.stdout.fileno(), 65_536):
            *lines, rest = (rest + part).replace(b"\n", b"\r").split(b"\r")
            for line in lines:
                for word in line.split():
                    name, _, value = word.partition(b"=")
                    if name == b"mesg" and value.isdigit():
                        self.count = int(value)

    def until(self, count: int) -> None:
        """Wait until so many messages have arrived in all."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.count < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count} of {count} messages arrived in {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.002)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


class Relay(NamedTuple):
    """One of the two: where it listens, and its processes by part."""

    server: Server
    parts: Callable[[], dict[str, list[int]]]


async def _fill(bus: BusServer, key: rsa.RSAPrivateKey) -> None:
    await seeded(bus)
    control, verifier = await asyncio.gather(bus.connect("control"), bus.connect("verifier"))
    tenants = Tenants(control, verifier)
    shop = await tenants.directory.get("configuration.shop")
    assert shop is not None
    assert isinstance(shop.record, Configuration)
    await tenants.user(shop.record, USER, OWASP.hash(password_of(USER)))
    pkcs8 = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keys: Bucket[DkimKey] = Bucket(control, "keys", DkimKey)
    sealed = seal(MASTER_KEY, pkcs8, "dkim.shop")
    await keys.put(
        "dkim.shop",
        DkimKey(configuration="shop", domain="shop.example", selector="s", algorithm="rsa-sha256", sealed=sealed),
    )
    await control.close()
    await verifier.close()


@contextmanager
def _dns() -> Iterator[DnsServer]:
    """Serve the recipients' domain from a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = DnsServer(ttl=3600)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    server.set("client.example", "MX", "10 mx.client.example.")
    server.set("mx.client.example", "A", "127.0.0.1")
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def _room(program: str, variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", program], env=variables, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _ours(directory: Path, sink: Sink, key: rsa.RSAPrivateKey) -> Iterator[tuple[Relay, IngressProcess]]:
    (directory / "nats").mkdir()
    (directory / "master-key").write_text(base64.b64encode(MASTER_KEY).decode())
    (directory / "master-key").chmod(0o600)
    bus = started(directory / "nats", Topology(mail_bytes=500_000_000))
    with ExitStack() as stack:
        stack.callback(bus.stop)
        asyncio.run(_fill(bus, key))
        dns = stack.enter_context(_dns())
        ingress = IngressProcess(bus, directory, strangers_per_address="20000")
        ingress.start()
        stack.callback(ingress.stop)
        delivery = stack.enter_context(
            _room(
                DELIVERY,
                bus.environment("delivery")
                | {
                    "POSTLANE_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
                    "POSTLANE_DELIVERY_MASTER_KEY_FILE": str(directory / "master-key"),
                    "POSTLANE_DELIVERY_RESOLVERS": dns.where,
                    "POSTLANE_DELIVERY_MX_PORT": str(sink.port),
                    "POSTLANE_DELIVERY_ALLOWED_NETWORKS": "127.0.0.0/8",
                    "POSTLANE_DELIVERY_EHLO_NAME": "relay.test",
                },
                directory / "delivery.log",
            )
        )
        tracker = stack.enter_context(
            _room(
                TRACKER,
                bus.environment("tracker")
                | {
                    "POSTLANE_HEALTH_LISTEN": f"127.0.0.1:{free_port()}",
                    "POSTLANE_TRACKER_DATABASE_URL": f"sqlite:///{directory / 'tracker.sqlite'}",
                },
                directory / "tracker.log",
            )
        )
        assert ingress.process is not None
        parts = {
            "ingress": [ingress.process.pid],
            "delivery": [delivery.pid],
            "tracker": [tracker.pid],
            "nats-server": [bus.pid],
        }
        yield Relay(Server(ingress.ports["public"], ingress.ports["tls"], USER), lambda: parts), ingress


def _run(case: Case, relay: Relay, sink: Sink) -> tuple[float, dict[str, float]]:
    """Return messages a second, and processor microseconds of a message by part."""
    mail = message(1024)
    count, before = case.clients * case.messages, sink.count

    def client(_number: int) -> None:
        if case.reused:
            session = Session(relay.server, tls=True)
            for _ in range(case.messages):
                session.send(mail, pipelined=True)
            session.close()
        else:
            for _ in range(case.messages):
                session = Session(relay.server, starttls=True)
                session.send(mail, pipelined=True)
                session.close()

    spent = {part: cpu_seconds(*pids) for part, pids in relay.parts().items()}
    began = time.monotonic()
    at_once(case.clients, client)
    sink.until(before + count)
    seconds = time.monotonic() - began
    time.sleep(1.0)  # what is owed afterwards belongs to the messages too: status, tracker, logs
    after = {part: cpu_seconds(*pids) for part, pids in relay.parts().items()}
    return count / seconds, {part: (after[part] - spent.get(part, 0)) / count * 1e6 for part in after}


def _spread(figures: list[float]) -> str:
    return f"{min(figures):.0f} / {statistics.median(figures):.0f} / {max(figures):.0f}"


def _parts(runs: list[dict[str, float]]) -> str:
    return ", ".join(f"{part} {statistics.median(run[part] for run in runs):.0f}" for part in runs[0])


def measure(names: list[str], runs: int) -> None:
    """Run cases in pairs and print what they came to."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        sink = Sink()
        stack.callback(sink.stop)
        ours, ingress = stack.enter_context(_ours(Path(place), sink, key))
        signer = OpenDkim(key)
        stack.callback(signer.stop)
        peer = PostfixPeer(ingress.certificate, ingress.key, relay_to=sink.port, milter=signer.port)
        stack.callback(peer.stop)
        theirs = Relay(peer.server, lambda: {"postfix": peer.pids(), "opendkim": signer.pids()})
        warm = Case("", 5, 10, reused=True)
        for relay in (ours, theirs):
            _run(warm, relay, sink)
        for name in names:
            case = CASES[name]
            mine: list[float] = []
            other: list[float] = []
            my_parts: list[dict[str, float]] = []
            other_parts: list[dict[str, float]] = []
            yardsticks: list[float] = []
            for _ in range(runs):
                yardsticks.append(yardstick())
                for relay, rates, parts in ((ours, mine, my_parts), (theirs, other, other_parts)):
                    rate, spent = _run(case, relay, sink)
                    rates.append(rate)
                    parts.append(spent)
            ratios = [a / b for a, b in zip(mine, other, strict=True)]
            print(
                f"{case.what}: messages/s min/median/max {_spread(mine)}, Postfix {_spread(other)}, "
                f"ratio {min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}; "
                f"CPU µs: {_parts(my_parts)}; {_parts(other_parts)}; yardstick {statistics.median(yardsticks):.1f} µs",
                flush=True,
            )


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args()
    print(machine(), flush=True)
    measure(chosen.case or list(CASES), chosen.runs)


if __name__ == "__main__":
    main()
