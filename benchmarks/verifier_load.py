"""Many configurations, two verifier replicas: memory, DNS questions per second, evenness of the schedule.

Run: `python -m benchmarks.verifier_load --configurations 10000 --interval 180`. Starts its own nats-server and DNS
server on loopback and prints one JSON object. The interval of verified domains is shortened so that a run takes
minutes.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.bus.kv import Bucket
from shared.bus.settings import Topology
from shared.contract.records import Configuration, DirectoryRecord, Record
from shared.contract.standing import Standing
from tests.bus_server import BusServer
from tests.dns_server import DnsServer

RUN = "import os, sys; from services.verifier.app import main; sys.exit(main(os.environ, None))"
KEY = "v=DKIM1; k=rsa; p=" + base64.b64encode(bytes(range(256)) + b"a key of the size of RSA-2048 ones").decode()
SPF = "v=spf1 include:spf.relay.example -all"


def configuration(number: int) -> Configuration:
    """Return the configuration of a number."""
    now = datetime.now(UTC)
    return Configuration(
        id=str(UUID(int=number * 2**64 + 7)), instance="i-1", name=f"n{number}", domain=f"d{number}.example",
        selector="s1", dkim_value=KEY, spf_value=SPF, created_at=now, updated_at=now,
    )  # fmt: skip


async def measure(count: int, interval: float, replicas: int) -> dict[str, Any]:
    """Fill a directory, let replicas verify it, watch a whole interval."""
    with tempfile.TemporaryDirectory() as place:
        server = BusServer(Path(place), Topology(shards=1, slots=1))
        server.start()
        await server.provision()
        processes: list[asyncio.subprocess.Process] = []
        try:
            async with DnsServer(ttl=300) as dns:
                return await _measured(server, dns, processes, count, interval, replicas)
        finally:
            for process in processes:
                if process.returncode is None:
                    process.terminate()
                    await process.wait()
            server.stop()


async def _measured(
    server: BusServer, dns: DnsServer, processes: list[Any], count: int, interval: float, replicas: int
) -> dict[str, Any]:
    dns.set("spf.relay.example", "TXT", "v=spf1 ip4:192.0.2.0/24 -all")
    control = await server.connect("control")
    directory: Bucket[Record] = Bucket(control, "directory", DirectoryRecord)
    for start in range(0, count, 200):
        async with asyncio.TaskGroup() as tasks:
            for number in range(start, min(start + 200, count)):
                dns.set(f"d{number}.example", "TXT", SPF)
                dns.set(f"d{number}.example", "A", "192.0.2.80")
                dns.set(f"s1._domainkey.d{number}.example", "TXT", KEY)
                made = configuration(number)
                tasks.create_task(directory.put(f"configuration.{made.id}", made))
    environ = {
        **os.environ, **{n: v for n, v in server.environment("verifier").items() if n.startswith("POSTLANE_BUS_")},
        "POSTLANE_VERIFIER_RESOLVERS": dns.where, "POSTLANE_VERIFIER_EGRESS_ADDRESSES": "192.0.2.1,192.0.2.2",
        "POSTLANE_VERIFIER_VERIFIED_SECONDS": str(interval), "POSTLANE_VERIFIER_DNS_QUERIES_PER_SECOND": "300",
        "POSTLANE_HEALTH_LISTEN": "",
    }  # fmt: skip
    began = time.monotonic()
    for _ in range(replicas):
        processes.append(
            await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, env=environ, stdout=-3, stderr=-3)
        )
    standing: Bucket[Standing] = Bucket(control, "standing", Standing)
    while True:
        if sum(entry.record.state == "verified" for entry in await standing.entries()) == count:
            break
        await asyncio.sleep(2)
    verified_after = time.monotonic() - began
    await asyncio.sleep(interval * 1.5)  # the first checks fell together, the ones after lie in their places
    dns.asked.clear()
    cpu = [_cpu_seconds(p.pid) for p in processes]
    per_second: list[int] = []
    for _ in range(int(interval)):
        before = len(dns.asked)
        await asyncio.sleep(1)
        per_second.append(len(dns.asked) - before)
    checks = Counter(name for name, _, _ in dns.asked if "_domainkey" in name)
    await control.close()
    return {
        "configurations": count,
        "replicas": replicas,
        "interval_seconds": interval,
        "all_verified_after_seconds": round(verified_after, 1),
        "dns_questions_per_second": {
            "mean": round(statistics.mean(per_second), 1),
            "p99": sorted(per_second)[int(len(per_second) * 0.99) - 1],
            "max": max(per_second),
        },
        "checks_in_one_interval": sum(checks.values()),
        "configurations_checked_once": sum(n == 1 for n in checks.values()),
        "memory_mb": [_memory_mb(p.pid) for p in processes],
        "cpu_percent": [
            round(100 * (_cpu_seconds(p.pid) - was) / interval, 1) for p, was in zip(processes, cpu, strict=True)
        ],
    }


def _memory_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=180)
    parser.add_argument("--replicas", type=int, default=2)
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(measure(chosen.configurations, chosen.interval, chosen.replicas)), indent=2))


if __name__ == "__main__":
    main()
