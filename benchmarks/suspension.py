"""How long after a suspension is written three ingress replicas refuse mail.

Run: `python -m benchmarks.suspension --rounds 200`. Starts its own nats-server and three ingress processes on loopback
and prints one JSON object. The time runs from just before the write, so it includes the sync to disk, to the first
MAIL that each replica refuses; sessions are open and ask every 2 ms. Two kinds: an operator's suspension, written
as control does, and a suspension for DNS, written as the verifier does.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiosmtplib

from shared.bus.settings import Topology
from shared.contract.errors import BusUnavailable
from tests.bus_server import BusServer
from tests.ingress_process import IngressProcess, Tenants, client_context, password_of, seeded

REPLICAS = 3
GIVE_UP_SECONDS = 10.0
PACE_SECONDS = 0.002
PATIENCE_SECONDS = 0.1
"""Ingress ends sessions that ask too much for nothing."""
Act = Callable[[], Coroutine[Any, Any, float]]
"""Returns when its write began."""


async def measure(rounds: int) -> dict[str, Any]:
    """Measure both kinds of suspension."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "nats").mkdir()
        server = BusServer(Path(place) / "nats", Topology(shards=2, slots=2, mail_bytes=256 << 20))
        server.start()
        await server.provision()
        await seeded(server)
        replicas = []
        try:
            for number in range(REPLICAS):
                directory = Path(place) / f"ingress-{number}"
                directory.mkdir()
                replicas.append(IngressProcess(server, directory))
                await asyncio.to_thread(replicas[-1].start)
            return await _both(server, replicas, rounds)
        finally:
            for replica in replicas:
                if replica.process is not None:
                    await asyncio.to_thread(replica.stop)
            server.stop()


async def _both(server: BusServer, replicas: list[IngressProcess], rounds: int) -> dict[str, Any]:
    control, verifier = await server.connect("control"), await server.connect("verifier")
    tenants = Tenants(control, verifier)
    shop = await tenants.configuration("a", "strict", "strict.example", when_suspended="refuse")
    await tenants.user(shop, "stella")

    async def operator() -> float:
        began = time.monotonic()
        await tenants.suspend("strict", "measured")
        return began

    async def pardon() -> float:
        await tenants.directory.delete("suspension.strict")
        return time.monotonic()

    async def dns() -> float:
        began = time.monotonic()
        await tenants.stand(shop, "suspended")
        return began

    async def found() -> float:
        await tenants.stand(shop, "verified")
        return time.monotonic()

    try:
        return {
            "replicas": REPLICAS,
            "operator": _figures(await _rounds(replicas, rounds, operator, pardon)),
            "dns": _figures(await _rounds(replicas, rounds, dns, found)),
            "operator, right after a restart of nats-server": _figures(
                await _rounds(
                    replicas, max(rounds // 20, 3), _restarting(server, operator), pardon, PATIENCE_SECONDS / 2
                )
            ),
        }
    finally:
        await control.close()
        await verifier.close()


def _restarting(server: BusServer, suspend: Act) -> Act:
    """Return an act that kills and starts nats-server, and suspends as soon as that can be written."""

    async def act() -> float:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        while True:
            began = time.monotonic()
            try:
                await suspend()
            except BusUnavailable:
                await asyncio.sleep(PACE_SECONDS)
            else:
                return began

    return act


async def _rounds(
    replicas: list[IngressProcess], rounds: int, suspend: Act, resume: Act, pace_seconds: float = PACE_SECONDS
) -> list[float]:
    """Suspend and resume again and again; return the seconds to each replica's first refusal."""
    taken: list[float] = []
    for _ in range(rounds):
        sessions = [await _session(replica) for replica in replicas]
        async with asyncio.TaskGroup() as tasks:
            for session in sessions:
                tasks.create_task(_until(session, 250, PATIENCE_SECONDS))
        async with asyncio.TaskGroup() as tasks:
            refusals = [tasks.create_task(_until(session, 550, pace_seconds)) for session in sessions]
            written = tasks.create_task(suspend())
        taken += [task.result() - written.result() for task in refusals]
        await resume()
        for session in sessions:
            session.close()
    return taken


async def _session(replica: IngressProcess) -> aiosmtplib.SMTP:
    context: ssl.SSLContext = client_context()
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=replica.ports["tls"], use_tls=True, tls_context=context, timeout=GIVE_UP_SECONDS
    )
    await client.connect()
    await client.login("stella", password_of("stella"))
    return client


async def _until(session: aiosmtplib.SMTP, wanted: int, pause_seconds: float) -> float:
    """Ask with MAIL until the reply has the wanted code; return when it came."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            try:
                code = (await session.mail("app@strict.example")).code
            except aiosmtplib.SMTPResponseException as refusal:
                code = refusal.code
            at = time.monotonic()
            if code == 250:
                await session.rset()
            if code == wanted:
                return at
            await asyncio.sleep(pause_seconds)


def _figures(taken: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * seconds for seconds in taken)
    return {
        "refusals": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99) - 1], 1),
        "max_ms": round(ordered[-1], 1),
    }


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    print(json.dumps(asyncio.run(measure(parser.parse_args().rounds)), indent=2))


if __name__ == "__main__":
    main()
