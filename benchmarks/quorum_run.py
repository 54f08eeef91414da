"""Three nats-servers under fire: leaders, majorities and all of them die, freeze or are restarted under submissions.

Run: `python -m benchmarks.quorum_run --rounds 20`. Starts three servers that keep three copies, an ingress with
clients, a delivery worker and an exchanger, all on loopback; prints one JSON object. It ends with an error if a message
that was answered 250 is lost, if one is answered 250 while there is no majority, if a client gets a 5xx, if mail is not
taken again in time, or if a second copy is not marked in its record. `--lose 1` is the control: so many messages are
taken away, and the ledger must name them.
"""

import argparse
import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shared.bus.permissions import ADMINISTRATOR
from shared.bus.settings import Topology
from shared.contract.errors import BusUnavailable
from shared.contract.events import AnyStatus
from tests.bus_cluster import LAME_DUCK, BusCluster, Node, started_cluster
from tests.delivery.world import World, made
from tests.ingress_process import IngressProcess
from tests.patience import until
from tests.submitters import Submitters, admitted

TOPOLOGY = Topology(shards=2, slots=2, mail_bytes=64 << 20)
CLIENTS = 4
T = TypeVar("T")
PAUSE_SECONDS = 0.02
RESUME_SECONDS = 15.0
PATIENCE_SECONDS = 60.0
MAJORITY = 2
AWAY_SECONDS = (1.0, 4.0)
FROZEN_SECONDS = (4.0, 20.0)
STORE_SECONDS = 3.0
"""Short, so that clients are refused while there is no majority; in service they wait longer."""


class Round(msgspec.Struct, frozen=True):
    """One blow, and what clients saw of it."""

    what: str
    resumed: float | None
    """Seconds from the last moment when a server was missed until the next 250; None: none came."""
    pause: float
    """Longest time without a 250, in seconds, from the blow until the cluster was whole."""
    unfounded: int
    """Messages begun and answered 250 while there was no majority."""
    refused: int
    """Tries that were told 4xx."""


class Run:
    """A cluster, what is connected to it, and the blows it gets."""

    def __init__(self, cluster: BusCluster, world: World, clients: Submitters, seed: int) -> None:
        self.cluster = cluster
        self.world = world
        self.clients = clients
        self.dice = random.Random(seed)
        self.rounds: list[Round] = []
        self.blows: dict[str, Callable[[], Awaitable[tuple[float, int]]]] = {
            "leader killed": self.kill_leader,
            "two of three killed": self.kill_two,
            "all three killed": self.kill_all,
            "leader frozen": self.freeze_leader,
            "restarted one by one": self.restart_each,
            "lame duck one by one": self.lame_duck_each,
            "disks replaced one by one": self.replace_disks,
        }

    def delivery(self) -> "subprocess.Popen[bytes]":
        """Start a delivery worker."""
        return self.world.process(quiet=True, retry_waits_seconds="1", mta_sts="false", drain_seconds="5")

    async def strike(self, what: str) -> None:
        """Do one of the blows, wait until mail is taken again and the cluster is whole."""
        log, began = self.clients.log, time.monotonic()
        refused = log.refusals
        moment, unfounded = await self.blows[what]()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (first := log.first_after(moment)) is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await self.cluster.until_whole()
        resumed = None if first is None else round(first - moment, 2)
        pause = round(log.longest_pause(began, time.monotonic()), 2)
        self.rounds.append(Round(what, resumed, pause, unfounded, log.refusals - refused))

    async def kill_leader(self) -> tuple[float, int]:
        """Leave a majority, which elects another leader."""
        leader = await self._leader()
        moment = time.monotonic()
        leader.kill()
        await self._away()
        await asyncio.to_thread(leader.start)
        return moment, 0

    async def kill_two(self) -> tuple[float, int]:
        """Leave one, which stores nothing."""
        leader = await self._leader()
        other = next(node for node in self.cluster.nodes if node is not leader)
        for node in (leader, other):
            node.kill()
        return await self._without_majority(other)

    async def kill_all(self) -> tuple[float, int]:
        """Leave nothing but the disks."""
        self.cluster.kill()
        return await self._without_majority(self.cluster.nodes[0])

    async def freeze_leader(self) -> tuple[float, int]:
        """Stop the leader, which still holds its connections; it wakes up as one that was deposed."""
        leader = await self._leader()
        moment = time.monotonic()
        leader.pause()
        await asyncio.sleep(self.dice.uniform(*FROZEN_SECONDS))
        leader.resume()
        return moment, 0

    async def restart_each(self) -> tuple[float, int]:
        """Restart as for an upgrade: the next one when the last one is whole again."""
        return await self._one_by_one(signal.SIGTERM)

    async def lame_duck_each(self) -> tuple[float, int]:
        """Restart likewise, each server first sending away its clients and what it leads."""
        return await self._one_by_one(LAME_DUCK)

    async def replace_disks(self) -> tuple[float, int]:
        """Kill each server and start it with an empty disk: in the end nothing is left of what was first written."""
        moment = time.monotonic()
        for node in self.cluster.nodes:
            moment = time.monotonic()
            node.kill()
            await asyncio.to_thread(shutil.rmtree, node.directory / "store")
            await asyncio.to_thread(node.start)
            await self.cluster.until_whole()
        return moment, 0

    async def _one_by_one(self, number: int) -> tuple[float, int]:
        moment = time.monotonic()
        for node in self.cluster.nodes:
            moment = time.monotonic()
            node.signal(number)
            await until(f"{node.name} has ended", node.ended, PATIENCE_SECONDS)
            await asyncio.to_thread(node.start)
            await self.cluster.until_whole()
        return moment, 0

    async def _without_majority(self, first: Node) -> tuple[float, int]:
        """Keep it so until a client was refused, then start so many servers that they are a majority again."""
        since, refused = time.monotonic(), self.clients.log.refusals
        deadline = since + PATIENCE_SECONDS
        while self.clients.log.refusals == refused and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        until = time.monotonic()
        await asyncio.to_thread(first.start)
        if sum(not node.ended() for node in self.cluster.nodes) < MAJORITY:
            await asyncio.to_thread(next(node for node in self.cluster.nodes if node.ended()).start)
        moment = time.monotonic()
        await self._away()
        await asyncio.to_thread(self.cluster.start)
        return moment, len(self.clients.log.within(since, until))

    async def _leader(self) -> Node:
        return await self.cluster.leader(f"MAIL_{self.dice.randrange(TOPOLOGY.shards)}")

    async def _away(self) -> None:
        await asyncio.sleep(self.dice.uniform(*AWAY_SECONDS))

    async def settled(self, lost: set[str], seconds: float = 120) -> None:
        """Wait until everything accepted has arrived and the queues are empty, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            arrived = {address for message in self.world.exchanger.received for address in message.recipients}
            try:
                if self.clients.log.accepted.keys() - lost <= arrived and not await self.world.watcher.queued():
                    return
            except BusUnavailable:
                pass
            await asyncio.sleep(0.2)

    async def report(self, lost: set[str]) -> dict[str, Any]:
        """Return the figures; what must not be is under `missing`, `unfounded`, `permanent`, `unmarked`, `idle`."""
        log = self.clients.log
        queued = {subject.rpartition(".")[2] for subject in await _patiently(self.world.watcher.queued)}
        waiting = {address for address, queue_id in log.accepted.items() if queue_id in queued}
        arrived = Counter(address for message in self.world.exchanger.received for address in message.recipients)
        marked = await _patiently(self._marked)
        by_kind = {what: [each for each in self.rounds if each.what == what] for what in BLOWS}
        return {
            "rounds": {
                what: [msgspec.to_builtins(each) for each in rounds] for what, rounds in by_kind.items() if rounds
            },
            "accepted": len(log.accepted),
            "refused": dict(Counter(reply[:9] for reply in (*log.refused.values(), *log.elsewhere))),
            "broken": len(log.broken),
            "missing": sorted(log.accepted.keys() - arrived.keys() - waiting),
            "waiting": len(waiting),
            "lost_on_purpose": sorted(lost),
            "unfounded": sum(each.unfounded for each in self.rounds),
            "permanent": log.permanent,
            "withdrawn_too_late": len(log.refused.keys() & arrived.keys()),
            "duplicates": sum(count - 1 for count in arrived.values()),
            "unmarked": sorted(a for a, count in arrived.items() if count > 1 and a not in marked | waiting),
            "idle": [each.what for each in self.rounds if each.resumed is None],
            "late": [each.what for each in self.rounds if each.resumed is None or each.resumed >= RESUME_SECONDS],
        }

    async def _marked(self) -> set[str]:
        decoder = msgspec.json.Decoder(AnyStatus)
        found: dict[str, bool] = {}
        async for stored in self.world.watcher.bus.scan("STATUS", "postlane.status.>"):
            state = decoder.decode(stored.payload).recipients[0]
            found[state.address] = state.possible_duplicate
        return {address for address, twice in found.items() if twice}


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Read from servers that are busy with becoming one again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await read()
        except BusUnavailable:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.2)


async def take_away(cluster: BusCluster, addresses: set[str]) -> None:
    """Delete accepted messages behind everybody's back."""
    bus = await cluster.connect(ADMINISTRATOR)
    delivery = await cluster.connect("delivery")
    try:
        for shard in range(TOPOLOGY.shards):
            async for stored in delivery.scan(f"MAIL_{shard}", f"postlane.mail.{shard}.>"):
                if any(f'"{address}"'.encode() in stored.payload for address in addresses):
                    await bus.remove(f"MAIL_{shard}", stored.sequence)
    finally:
        await delivery.close()
        await bus.close()


@asynccontextmanager
async def under_load(directory: Path, seed: int = 7) -> AsyncIterator[Run]:
    """Give a cluster with an ingress that clients submit to; at the end everything is stopped."""
    (directory / "nats").mkdir()
    cluster = await started_cluster(directory / "nats", TOPOLOGY)
    try:
        async with made(cluster, directory) as world:
            await admitted(world.tenant)
            ingress = IngressProcess(cluster, directory, store_seconds=str(STORE_SECONDS), store_attempt_seconds="1")
            await asyncio.to_thread(ingress.start)
            clients = Submitters(ingress.ports["tls"], f"app@{world.tenant.domain}", CLIENTS, PAUSE_SECONDS)
            try:
                yield Run(cluster, world, clients, seed)
            finally:
                ingress.kill()
    finally:
        cluster.stop()


async def run(
    directory: Path,
    blows: list[str],
    *,
    lose: int = 0,
    seed: int = 7,
    settle: bool = False,
    deliver_late: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Run once and return the report; `ok` says whether it is as it must be.

    `settle`: wait until all has arrived. `deliver_late`: what is accepted waits in the queue until the blows are over.
    """
    began = time.monotonic()
    async with under_load(directory, seed) as fight:
        fight.clients.start()
        lost: set[str] = set()
        await until("mail is taken", lambda: len(fight.clients.log.accepted) >= 10 + lose, PATIENCE_SECONDS)
        if lose:
            lost = set(list(fight.clients.log.accepted)[:lose])
            await take_away(fight.cluster, lost)
        delivery = None if deliver_late else fight.delivery()
        try:
            for number, blow in enumerate(blows, 1):
                await fight.strike(blow)
                if progress:
                    accepted = len(fight.clients.log.accepted)
                    print(f"{number} of {len(blows)}: {fight.rounds[-1]}, {accepted} accepted", file=sys.stderr)
            await asyncio.to_thread(fight.clients.stop)
            delivery = delivery or fight.delivery()
            if settle:
                await fight.settled(lost)
            report = await fight.report(lost)
        finally:
            if delivery is not None:
                delivery.terminate()
                await asyncio.to_thread(delivery.wait, 60)
    report["seconds"] = round(time.monotonic() - began, 1)
    report["ok"] = report["missing"] == report["lost_on_purpose"] and not any(
        report[name] for name in ("unfounded", "permanent", "unmarked", "late")
    )
    return report


BLOWS = (
    "leader killed",
    "two of three killed",
    "all three killed",
    "leader frozen",
    "restarted one by one",
    "lame duck one by one",
    "disks replaced one by one",
)


def main() -> int:
    """Run, print the report; 1 if something is not as it must be."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--blow", choices=BLOWS, help="only this one")
    options.add_argument("--lose", type=int, default=0)
    options.add_argument("--deliver-late", action="store_true", help="deliver only once the blows are over")
    options.add_argument("--seed", type=int, default=7)
    given = options.parse_args()
    blows = [given.blow or BLOWS[number % len(BLOWS)] for number in range(given.rounds)]
    with tempfile.TemporaryDirectory() as place:
        made_of = {"lose": given.lose, "seed": given.seed, "deliver_late": given.deliver_late}
        report = asyncio.run(run(Path(place), blows, **made_of, settle=True, progress=True))
    print(json.dumps(report, indent=2))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
