"""B08: what was answered 250 is there after a power cut, at whatever moment it comes.

A real nats-server runs under strace while clients submit to a real ingress. Its store is then put back as a cut of the
power would have left it, for many moments, and a nats-server is started on each. The control: with the server's default
`sync_interval` the same finds mail lost.
"""

import asyncio
import math
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from shared.bus.settings import Topology
from shared.contract.envelope import unpack
from shared.contract.errors import BusUnavailable
from tests.bus_server import BusServer
from tests.delivery.house import Tenant
from tests.ingress_process import IngressProcess
from tests.judges.disk import Disk, tracing
from tests.submitters import Log, Submitters, admitted

pytestmark = pytest.mark.judge

TOPOLOGY = Topology(shards=1, slots=1, mail_bytes=16 << 20)
"""So little that the stream begins a new block file in a run."""
MESSAGES = 130
OCTETS = 40_000
CUTS = 60
SECONDS = 60.0


@pytest.fixture(scope="module")
def strace() -> str:
    """Return strace; skip where it is not installed or may not trace."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed; `make judges` installs it as root on Debian")
    tried = subprocess.run([program, "-f", "-o", "/dev/null", "true"], check=False, timeout=60)
    if tried.returncode:
        pytest.skip("strace may not trace here")
    return program


class Cuts:
    """A trace of a server, and what was acknowledged while it was made."""

    def __init__(self, directory: Path, log: Log, began: float, ended: float) -> None:
        clock = time.time() - time.monotonic()  # the trace has the time of day
        self.directory = directory
        self.acknowledged = {
            each.text.rpartition(" ")[2]: each.ended + clock for each in log.answers if each.code == 250
        }
        self.began = began + clock
        self.ended = ended + clock

    def moments(self, dice: random.Random) -> list[float]:
        """Return moments: most just after an acknowledgement, the others anywhere."""
        acknowledged = sorted(self.acknowledged.values())
        just_after = dice.sample(acknowledged, CUTS * 3 // 4)
        return sorted(just_after + [dice.uniform(self.began, self.ended) for _ in range(CUTS - len(just_after))])

    async def lost(self, place: Path) -> dict[float, set[str]]:
        """Return by moment what was acknowledged before and is not there after a cut."""
        dice = random.Random(11)
        disk = Disk(self.directory / "store", self.directory / "trace")
        server = BusServer(place, TOPOLOGY)
        found: dict[float, set[str]] = {}
        for number, moment in enumerate(self.moments(dice)):
            disk.advance(moment)
            shutil.rmtree(place / "store", ignore_errors=True)
            (place / "store").mkdir()
            disk.put(place / "store", "late" if number % 2 else "early", dice if number % 3 else None)
            await asyncio.to_thread(server.start)
            try:
                there = await stored(server)
            finally:
                server.kill()
            found[moment] = {each for each, at in self.acknowledged.items() if at <= moment} - there
        disk.advance(math.inf)
        assert disk.differs() == []  # the trace tells the truth: without a cut it leads to what is there
        return found


async def stored(server: BusServer) -> set[str]:
    """Return the queue IDs of the whole messages in the mail stream; none if there is no stream any more."""
    found: set[str] = set()
    bus = await server.connect("delivery")
    try:
        async for message in bus.scan("MAIL_0", "postlane.mail.0.>"):
            carriage, mail = unpack(message.payload)
            assert carriage.envelope.sha256 == sha256(mail).hexdigest()
            found.add(carriage.envelope.queue_id)
    except BusUnavailable:
        pass
    finally:
        await bus.close()
    return found


def tail(trace: Path) -> list[str]:
    """Return the last lines of a trace."""
    with trace.open("rb") as lines:
        lines.seek(max(0, trace.stat().st_size - 4096))
        return lines.read().decode(errors="replace").splitlines()


@asynccontextmanager
async def traced(strace: str, directory: Path, sync: str) -> AsyncIterator[BusServer]:
    """Run a provisioned server under strace; at the end it is killed and its trace is complete."""
    trace = directory / "trace"
    server = BusServer(directory, TOPOLOGY)
    server.sync = sync
    server.wrapper = (strace, *tracing(trace))
    await asyncio.to_thread(server.start)
    try:
        await server.provision()
        yield server
    finally:
        pid = server.pid
        server.kill()
        deadline = time.monotonic() + SECONDS
        while not any(line.startswith(f"{pid} ") and "+++ killed" in line for line in tail(trace)):
            assert time.monotonic() < deadline, "the trace did not come to its end"
            await asyncio.sleep(0.05)


async def submitted(strace: str, directory: Path, sync: str) -> Cuts:
    """Submit to an ingress over a traced server; return what may be cut."""
    async with traced(strace, directory, sync) as server:
        tenant = Tenant(server)
        await tenant.open()
        await admitted(tenant)
        await tenant.close()
        relaxed = {} if sync == "always" else {"relaxed_durability": "true"}
        ingress = IngressProcess(server, directory, **relaxed)
        await asyncio.to_thread(ingress.start)
        clients = Submitters(ingress.ports["tls"], f"app@{tenant.domain}", clients=3, pause_seconds=0.01, octets=OCTETS)
        began = time.monotonic()
        try:
            clients.start()
            while len(clients.log.accepted) < MESSAGES and time.monotonic() < began + SECONDS:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(clients.stop)
        finally:
            ingress.kill()
        ended = time.monotonic()
    assert len(clients.log.accepted) >= MESSAGES
    return Cuts(directory, clients.log, began, ended)


async def lost_in_cuts(strace: str, directory: Path, sync: str) -> list[set[str]]:
    """Submit, cut, and return for each cut what was lost in it."""
    for name in ("traced", "after"):
        (directory / name).mkdir()
    cuts = await submitted(strace, directory / "traced", sync)
    return list((await cuts.lost(directory / "after")).values())


async def test_acknowledged_mail_survives_a_power_cut(strace: str, tmp_path: Path) -> None:
    """With `sync_interval: always` nothing is lost at any of the cuts."""
    assert await lost_in_cuts(strace, tmp_path, "always") == [set()] * CUTS


@pytest.mark.parametrize("sync", ["2m", "1s"])
async def test_a_server_that_syncs_at_intervals_loses_it(strace: str, tmp_path: Path, sync: str) -> None:
    """The control: with the server's default, or a second between syncs, the same cuts find mail lost."""
    assert any(await lost_in_cuts(strace, tmp_path, sync))
