"""What rules cost: compiling and deciding with very many networks, and an ingress with very many configurations.

Run: `python -m benchmarks.access_rules [--zones 500] [--networks 1000] [--configurations 1001]`; prints JSON.
The first part is pure computation in this process. The second starts a nats-server and an ingress on loopback, with
one instance per configuration (a zone of ten networks, a rule, an approved authorization, two users each) and one
instance more that has all the networks of the first part; then one of its zones is changed, while a session of another
tenant goes on sending NOOP.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiosmtplib
import msgspec

from services.ingress.core.access import Ranges, compile_access, zone_ranges
from shared.bus.settings import Topology
from shared.contract.records import (
    Authorization,
    Configuration,
    Instance,
    Password,
    Rule,
    RuleContext,
    User,
    Zone,
    ZoneAddress,
)
from shared.contract.standing import Observation, Standing
from tests.bus_server import BusServer
from tests.ingress_process import AT, CHEAP, QUESTIONNAIRE, IngressProcess, Tenants, client_context

DECISIONS = 200_000
LARGE = "large"
PASSWORD = "benchmark-password"  # of this benchmark's own users
WRITERS = 32
NOOP_PAUSE_SECONDS = 0.002
GIVE_UP_SECONDS = 30.0


def zones_of(instance: str, count: int, networks: int) -> dict[str, Zone]:
    """Make zones of disjoint /27 networks from 10.0.0.0 on, interleaved, which is hardest to sort."""
    made = {}
    for number in range(count):
        first = [(each * count + number) * 32 + (10 << 24) for each in range(networks)]
        entries = tuple(ZoneAddress(type="subnet", value=f"{ip_address(each)}/27") for each in first)
        zone = f"{instance}-{number}"
        made[zone] = Zone(id=zone, instance=instance, name=zone, addresses=entries, created_at=AT, updated_at=AT)
    return made


def rule_of(instance: str, zones: dict[str, Zone]) -> Rule:
    """Make a rule that lets all zones in."""
    context = RuleContext(zones=tuple(zones))
    return Rule(id=f"rule-{instance}", instance=instance, contexts=(context,), created_at=AT, updated_at=AT)


def computed(count: int, networks: int) -> dict[str, Any]:
    """Measure compiling and deciding without a server."""
    zones = zones_of(LARGE, count, networks)
    rule = rule_of(LARGE, zones)
    read: dict[str, Ranges] = {}

    def remembered(zone: Zone) -> Ranges:
        if zone.id not in read:
            read[zone.id] = zone_ranges(zone)
        return read[zone.id]

    whole = _cpu(lambda: compile_access([rule], zones, remembered))
    read.pop(next(iter(zones)))
    again = _cpu(lambda: compile_access([rule], zones, remembered))
    large = compile_access([rule], zones, remembered)
    one = zones_of("one", 1, 1)
    small = compile_access([rule_of("one", one)], one)
    inside, outside = ip_address((10 << 24) + 7), ip_address("192.0.2.1")
    return {
        "networks": count * networks,
        "compile_cpu_seconds": round(whole, 3),
        "compile_after_one_zone_changed_cpu_seconds": round(again, 3),
        "decision_us": {
            "inside": _each(lambda: large.denial(inside, "public")),
            "outside": _each(lambda: large.denial(outside, "public")),
            "inside_of_one_network": _each(lambda: small.denial(inside, "public")),
        },
    }


def _cpu(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _each(act: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(DECISIONS):
        act()
    return round((time.process_time() - began) / DECISIONS * 1e6, 2)


async def served(configurations: int, count: int, networks: int) -> dict[str, Any]:
    """Measure an ingress with many configurations, and a change among very many networks."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "nats").mkdir()
        server = BusServer(Path(place) / "nats", Topology(shards=2, slots=2, mail_bytes=256 << 20))
        server.start()
        await server.provision()
        control, verifier = await server.connect("control"), await server.connect("verifier")
        tenants = Tenants(control, verifier)
        ingress = IngressProcess(server, Path(place), idle_commands="1000000")
        empty = IngressProcess(server, Path(place))
        try:
            empty_seconds, empty_rss = await asyncio.to_thread(_started, empty)
            await asyncio.to_thread(empty.stop)
            await _fill(tenants, configurations)
            many_seconds, many_rss = await asyncio.to_thread(_started, ingress)
            logins = await _logins(ingress, configurations)
            await asyncio.to_thread(ingress.stop)
            zones = zones_of(LARGE, count, networks)
            await _gathered([_tenant(tenants, LARGE, zones)])
            all_seconds, all_rss = await asyncio.to_thread(_started, ingress)
            change = await _change(ingress, tenants, zones)
            return {
                "start_seconds": {
                    "empty": empty_seconds,
                    "configurations": many_seconds,
                    "and_very_many_networks": all_seconds,
                },
                "rss_mb": {"empty": empty_rss, "configurations": many_rss, "and_very_many_networks": all_rss},
                "login_and_mail_ms": logins,
                "one_zone_changed": change,
            }
        finally:
            for each in (empty, ingress):
                if each.process is not None and each.process.poll() is None:
                    await asyncio.to_thread(each.stop)
            await control.close()
            await verifier.close()
            server.stop()


def _started(ingress: IngressProcess) -> tuple[float, float]:
    began = time.monotonic()
    ingress.start(seconds=120)
    seconds = time.monotonic() - began
    assert ingress.process is not None
    status = Path(f"/proc/{ingress.process.pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return round(seconds, 2), round(rss / 1024, 1)


async def _gathered(work: list[Any]) -> None:
    gate = asyncio.Semaphore(WRITERS)

    async def one(each: Any) -> None:
        async with gate:
            await each

    await asyncio.gather(*(one(each) for each in work))


async def _fill(tenants: Tenants, configurations: int) -> None:
    made = [f"i{number}" for number in range(configurations)]
    await _gathered([_tenant(tenants, each, zones_of(each, 1, 9)) for each in made])


HASH = CHEAP.hash(PASSWORD)


async def _tenant(tenants: Tenants, name: str, zones: dict[str, Zone]) -> None:
    """Make an instance with a configuration, two users, zones that also let loopback in, and a rule."""
    domain = f"{name}.example"
    home = ZoneAddress(type="ipAddress", value="127.0.0.1")
    first = next(iter(zones))
    zones = zones | {first: msgspec.structs.replace(zones[first], addresses=(home, *zones[first].addresses[:999]))}
    configuration = Configuration(
        id=name, instance=name, name=name, domain=domain, selector="s", dkim_value="v=DKIM1", spf_value="v=spf1 -all",
        created_at=AT, updated_at=AT,
    )  # fmt: skip
    authorization = Authorization(
        configuration=name, instance=name, status="approved", questionnaire=QUESTIONNAIRE, submitted_at=AT
    )
    records: dict[str, Any] = {
        f"instance.{name}": Instance(id=name, name=name, created_at=AT),
        f"configuration.{name}": configuration,
        f"authorization.{name}": authorization,
        f"rule.rule-{name}": rule_of(name, zones),
        **{f"zone.{zone.id}": zone for zone in zones.values()},
    }
    for number in range(2):
        password = Password(id="p", hash=HASH, created_at=AT)
        user = User(
            id=f"u{number}", instance=name, configuration=name, username=f"{name}-u{number}", passwords=(password,),
            created_at=AT, updated_at=AT,
        )  # fmt: skip
        records[f"user.{name}.u{number}"] = user
    for key, record in records.items():
        await tenants.directory.put(key, record)
    good = Observation(verdict="pass", detail="found", name=domain, at=AT)
    standing = Standing(
        configuration=name, instance=name, domain=domain, state="verified", reason="", since=AT, spf=good
    )
    await tenants.standing.put(name, standing)


async def _client(ingress: IngressProcess, user: str) -> aiosmtplib.SMTP:
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=ingress.ports["public"], start_tls=True, tls_context=client_context(), timeout=30
    )
    await client.connect()
    await client.login(user, PASSWORD)
    return client


async def _logins(ingress: IngressProcess, configurations: int) -> dict[str, float]:
    """Return the time of connecting, TLS, login and MAIL, for users spread over all configurations."""
    times = []
    for number in range(0, configurations, max(1, configurations // 100)):
        began = time.monotonic()
        client = await _client(ingress, f"i{number}-u1")
        await client.mail(f"a@i{number}.example")
        times.append((time.monotonic() - began) * 1000)
        client.close()
    return {"median": round(statistics.median(times), 2), "worst": round(max(times), 2)}


async def _change(ingress: IngressProcess, tenants: Tenants, zones: dict[str, Zone]) -> dict[str, float]:
    """Take loopback out of the zone that has it; return when it is refused, and what another tenant felt meanwhile."""
    sender, other = await _client(ingress, f"{LARGE}-u0"), await _client(ingress, "i0-u0")
    felt: list[float] = []
    changed = asyncio.Event()

    async def noops() -> None:
        while not changed.is_set():
            began = time.monotonic()
            await other.noop()
            felt.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(NOOP_PAUSE_SECONDS)

    async def refused() -> float:
        began = time.monotonic()
        first = next(iter(zones))
        await tenants.directory.put(f"zone.{first}", zones[first])
        while time.monotonic() - began < GIVE_UP_SECONDS:
            try:
                await sender.mail(f"a@{LARGE}.example")
            except aiosmtplib.SMTPResponseException:
                return time.monotonic() - began
            await sender.rset()
            await asyncio.sleep(NOOP_PAUSE_SECONDS)
        raise AssertionError("the change did not arrive")

    going_on = asyncio.create_task(noops())
    try:
        seconds = await refused()
    finally:
        changed.set()
        await going_on
    return {
        "in_force_after_ms": round(seconds * 1000, 1),
        "noop_of_another_tenant_median_ms": round(statistics.median(felt), 2),
        "noop_of_another_tenant_worst_ms": round(max(felt), 1),
    }


def main() -> None:
    """Run both parts and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zones", type=int, default=500)
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--configurations", type=int, default=1001)
    wish = parser.parse_args()
    figures = {
        "computed": computed(wish.zones, wish.networks),
        "served": asyncio.run(served(wish.configurations, wish.zones, wish.networks)),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
