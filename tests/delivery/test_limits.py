"""Each limit of delivery has its effect: two values of a setting, two behaviours."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.command.ports import free_port
from services.delivery.commit import Commits
from services.delivery.core.outcome import Deferred, Delivered
from services.delivery.leases import Lease
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from services.delivery.sweep import Sweep
from services.delivery.worker import Worker
from shared.bus.client import Bus
from shared.contract.catalog import CONSUMERS
from shared.contract.envelope import Carriage, Progress, pack
from shared.contract.errors import SettingsFault
from shared.contract.subjects import shard_of
from shared.runtime.settings import load
from tests.delivery.exchanger import Exchanger
from tests.delivery.test_courier import field, only
from tests.delivery.world import World
from tests.patience import tasks_of_a_block

LONG = 60.0
HANGS_SECONDS = 1.0


@asynccontextmanager
async def full_listener(host: str) -> AsyncIterator[int]:
    """Give the port of a listener whose queue is full, so that a further connection hangs."""
    loop = asyncio.get_running_loop()
    listener, fillers = socket.create_server((host, free_port()), backlog=0), list[socket.socket]()
    try:
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            fillers.append(filler)
            try:
                await asyncio.wait_for(loop.sock_connect(filler, listener.getsockname()), HANGS_SECONDS)
            except TimeoutError:
                break
        else:
            pytest.skip("this kernel has no end of a listener's queue")
        yield listener.getsockname()[1]
    finally:
        for each in (listener, *fillers):
            each.close()


@pytest.mark.parametrize(("connect_timeout", "attempt_timeout", "delivered"), [(2.0, LONG, True), (LONG, 4.0, False)])
async def test_connect_timeout(connect_timeout: float, attempt_timeout: float, delivered: bool, tmp_path: Path) -> None:
    """An exchanger that does not even connect leaves time for the next one only if it is given up early."""
    async with full_listener("127.0.0.2") as port:
        second = await Exchanger().start("127.0.0.1", port)
        limits = {"connect_timeout_seconds": connect_timeout, "attempt_timeout_seconds": attempt_timeout}
        async with field(tmp_path, second, command_timeout_seconds=LONG, **limits) as made:
            made.dns.set("rcpt.test", "MX", "10 hangs.rcpt.test.", "20 mx.rcpt.test.")
            made.dns.set("hangs.rcpt.test", "A", "127.0.0.2")
            attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered if delivered else Deferred)
    assert (attempted.tried[0].host, attempted.tried[0].phase) == ("hangs.rcpt.test", "connect")
    assert second.connections == delivered


@pytest.mark.parametrize(("limit", "delivered"), [(2.0, False), (LONG, True)])
async def test_attempt_timeout(limit: float, delivered: bool, tmp_path: Path) -> None:
    """All of an attempt up to the dot has an end, however patient each of its parts may be."""
    exchanger = Exchanger()
    exchanger.script["EHLO"] = [(3.0 if delivered else LONG, b"250 mx.test\r\n")]
    limits = {"attempt_timeout_seconds": limit, "command_timeout_seconds": LONG, "final_reply_timeout_seconds": LONG}
    async with field(tmp_path, exchanger, **limits) as made:
        result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, Delivered if delivered else Deferred)


async def test_attempt_timeout_ends_at_the_dot(tmp_path: Path) -> None:
    """Once the dot is sent the reply to it is waited for, even if the attempt has had its time."""
    exchanger = Exchanger()
    exchanger.script["FINAL"] = [(5.0, b"250 stored\r\n")]
    async with field(tmp_path, exchanger, attempt_timeout_seconds=4.0, final_reply_timeout_seconds=LONG) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)


@pytest.mark.parametrize(("limit", "delivered"), [(0.3, False), (LONG, True)])
async def test_data_write_timeout(limit: float, delivered: bool, tmp_path: Path) -> None:
    """A server that stops reading a message in its middle is given up, or waited for."""
    exchanger = Exchanger()
    exchanger.script["DATA"] = [(b"354 go\r\n", 1.5 if delivered else LONG)]
    limits = {"data_write_timeout_seconds": limit, "final_reply_timeout_seconds": LONG}
    mail = b"From: a@d.example\r\n\r\n" + (b"x" * 900 + b"\r\n") * 30_000  # more than the kernel keeps for a socket
    async with field(tmp_path, exchanger, command_timeout_seconds=LONG, **limits) as made:
        result = only(await made.send("x@rcpt.test", mail=mail))
    assert isinstance(result, Delivered if delivered else Deferred)
    assert delivered or (result.diagnosis.phase, result.diagnosis.text) == (
        "data",
        "the server stopped reading the message",
    )


@pytest.mark.parametrize("groups", [2, 4])
async def test_message_groups(groups: int, tmp_path: Path) -> None:
    """So many destinations of one message are visited at a time, and all of them in the end."""
    hosts = [f"127.0.0.{number}" for number in range(1, 5)]
    visitors, most, visited = 0, 0, 0
    came, go = asyncio.Event(), asyncio.Event()

    async def visit(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visitors, most, visited
        visitors, visited = visitors + 1, visited + 1
        most = max(most, visitors)
        came.set()
        await go.wait()
        visitors -= 1
        writer.write(b"450 4.2.1 later\r\n")
        writer.close()

    exchanger = await Exchanger().start("127.0.0.9", 0)
    servers = [await asyncio.start_server(visit, host, exchanger.port) for host in hosts]
    async with field(tmp_path, exchanger, message_groups=groups, command_timeout_seconds=LONG) as made:
        for number, host in enumerate(hosts):
            made.dns.set(f"d{number}.test", "A", host)
        sending = asyncio.create_task(made.send(*(f"x@d{number}.test" for number in range(4))))
        async with asyncio.timeout(LONG):
            while visitors < groups:
                came.clear()
                await came.wait()
        go.set()
        attempted = await sending
    for server in servers:
        server.close()
    assert (most, visited, len(attempted.outcomes)) == (groups, 4, 4)


class Patient:
    """Takes what the worker hands it and keeps it until it is told to let go."""

    def __init__(self) -> None:
        self.kept: dict[Lease, asyncio.Event] = {}
        self.most = 0
        """Octets kept at a time, at most."""
        self.parked = 0

    async def carry(self, lease: Lease) -> None:
        """Keep a message until it is let go."""
        self.kept[lease] = asyncio.Event()
        self.most = max(self.most, sum(len(each.payload) for each in self.kept))
        await self.kept[lease].wait()
        await lease.ack()

    async def park(self, lease: Lease) -> None:
        """Count what is parked."""
        self.parked += 1
        await lease.ack()

    async def until(self, count: int) -> None:
        """Wait until so many are kept."""
        async with asyncio.timeout(LONG):
            while len(self.kept) < count:
                await asyncio.sleep(0.01)  # a poll: the condition decides

    def let_go(self) -> None:
        """Let go of all that is kept."""
        for event in self.kept.values():
            event.set()
        self.kept = {}


@asynccontextmanager
async def working(world: World, **settings: Any) -> AsyncIterator[tuple[Worker, Patient]]:
    """Run the pulling side of delivery alone."""
    bus, patient = await world.server.connect("delivery"), Patient()
    worker = Worker(world.settings(**settings), world.server.topology, bus, patient, Metrics(CollectorRegistry()))
    async with tasks_of_a_block() as tasks:
        worker.start(tasks)
        yield worker, patient
    await bus.close()


async def store(world: World, count: int, text: bytes = b"hello\r\n") -> tuple[str, str]:
    """Store messages that all lie behind one consumer; return its stream and name."""
    assert world.tenant.ingress is not None
    mail, stored = world.tenant.mail(text), 0
    while True:
        envelope = world.tenant.envelope(mail, "a@rcpt.test")
        place = world.tenant.place(envelope)
        if place.shard == 0:
            payload = pack(Carriage(envelope=envelope), mail)
            await world.tenant.ingress.store(place.ready, payload, stream="MAIL_0", expected_last=0)
            stored += 1
            if stored == count:
                return "MAIL_0", f"{place.lane}-{place.slot}"


async def store_everywhere(world: World, line: bytes, size: int) -> int:
    """Store messages in every shard and slot; return how many."""
    assert world.tenant.ingress is not None
    mail, wanted = world.tenant.mail(line * (size // len(line))), {(s, n) for s in range(2) for n in range(2)}
    stored = 0
    for shard, slot in wanted:
        for _ in range(3):
            envelope = world.tenant.envelope(mail, "a@rcpt.test")
            while shard_of(envelope.queue_id, 2) != shard:
                envelope = world.tenant.envelope(mail, "a@rcpt.test")
            place = world.tenant.place(envelope)._replace(slot=slot)
            payload = pack(Carriage(envelope=envelope), mail)
            await world.tenant.ingress.store(place.ready, payload, stream=f"MAIL_{shard}", expected_last=0)
            stored += 1
    return stored


BIG = 1 << 20
PULLS: dict[str, tuple[int, int, int, list[int]]] = {
    # octets in hand, messages and octets at once: how many of 12 messages of 10,000 octets come each time
    "wide": (BIG, 20, BIG, [12]),
    "buffer_bytes": (1, 1, BIG, [1] * 12),
    "pull_batch": (1, 5, BIG, [5, 5, 2]),
    "pull_bytes": (1, 20, 35_000, [3, 3, 3, 3]),
}


@pytest.mark.parametrize("case", PULLS)
async def test_what_is_pulled(case: str, world: World) -> None:
    """No more is pulled while as many octets are in hand as may be; messages and octets of one pull have limits."""
    buffer_bytes, pull_batch, pull_bytes, rounds = PULLS[case]
    stream, name = await store(world, 12, (b"x" * 98 + b"\r\n") * 100)
    limits = {"buffer_bytes": buffer_bytes, "pull_batch": pull_batch, "pull_bytes": pull_bytes}
    async with working(world, **limits) as (_, patient):
        for count in rounds:
            await patient.until(count)
            async with asyncio.timeout(LONG):  # what was let go before may still be on its way to the server
                while (await world.watcher.bus.api(f"CONSUMER.INFO.{stream}.{name}"))["num_ack_pending"] != count:
                    await asyncio.sleep(0.01)
            assert len(patient.kept) == count
            patient.let_go()
        await world.watcher.until_empty()


@pytest.mark.parametrize("size", [400_000, 1_200_000])
async def test_what_is_in_hand_of_all_consumers(size: int, world: World) -> None:
    """After an outage all consumers have mail: together they still bring little more than may be in hand."""
    count = await store_everywhere(world, b"x" * 998 + b"\r\n", size)
    done = 0
    async with working(world, buffer_bytes=1_000_000, pull_bytes=1_000_000) as (_, patient):
        while done < count:
            await patient.until(1)  # which fails after a bound
            done += len(patient.kept)
            patient.let_go()
        await world.watcher.until_empty()
    assert patient.most <= 1_000_000 + 2 * size


@pytest.mark.parametrize(("limit", "certain"), [(3.0, False), (22.0, True)])
async def test_hold_seconds(limit: float, certain: bool, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four seconds after its last extension a hold is certain enough for the final dot, or is not."""
    await store(world, 1)
    async with working(world, hold_seconds=limit) as (worker, patient):
        await patient.until(1)
        (lease,) = patient.kept
        real = worker.leases.now
        monkeypatch.setattr(worker.leases, "now", lambda: real() + 4)
        assert lease.may_finish() is certain
        patient.let_go()


async def test_an_extension_on_a_lost_connection_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent just before the server died may never have come to it, though it is reached again."""
    await store(world, 1)
    async with working(world) as (worker, patient):
        await patient.until(1)
        (lease,) = patient.kept
        real, extended, crashed = Bus.reached, list[float](), False

        async def reached(bus: Bus, timeout_seconds: float = 5) -> bool:
            nonlocal crashed
            if not crashed:
                crashed = True
                world.server.kill()
                await asyncio.to_thread(world.server.start)
                async with asyncio.timeout(LONG):
                    while not await real(bus, 1):
                        await asyncio.sleep(0.05)
            return await real(bus, timeout_seconds)

        monkeypatch.setattr(Bus, "reached", reached)
        monkeypatch.setattr(Lease, "extended", lambda _lease, at: extended.append(at))
        await worker.leases.extend([lease])
        assert (crashed, extended) == (True, [])
        async with asyncio.timeout(LONG):
            while not extended:
                await asyncio.sleep(0.05)
                await worker.leases.extend([lease])
        patient.let_go()


def test_hold_seconds_are_less_than_the_ack_wait() -> None:
    """A hold that the server has given up already cannot be thought certain."""
    waits = {consumer.ack_wait_seconds for consumer in CONSUMERS if consumer.stream in ("MAIL_{s}", "RETRY_{s}")}

    def loaded(seconds: float) -> DeliverySettings:
        values = {"POSTLANE_DELIVERY_MASTER_KEY_FILE": "key", "POSTLANE_DELIVERY_HOLD_SECONDS": str(seconds)}
        return load(DeliverySettings, "delivery", values)

    assert loaded(min(waits) - 1).hold_seconds == min(waits) - 1
    for seconds in (0.0, float(min(waits))):
        with pytest.raises(SettingsFault, match="HOLD_SECONDS"):
            loaded(seconds)


SWEEPS: dict[str, tuple[dict[str, float], list[int]]] = {
    "all at once": ({"overdue_seconds": 4.0, "sweep_messages": 5000}, [5]),
    "sweep_messages": ({"overdue_seconds": 4.0, "sweep_messages": 2}, [2, 2, 1]),
    "overdue_seconds": ({"overdue_seconds": 3600.0, "sweep_messages": 5000}, [0]),
}


@pytest.mark.parametrize("case", SWEEPS)
async def test_sweep(case: str, world: World) -> None:
    """A turn of the sweep looks at so many messages, and the next one goes on behind them; each is repeated once."""
    limits, turns = SWEEPS[case]
    mail, now = world.tenant.mail(), datetime.now(UTC)
    stored = 0
    while stored < 5:
        envelope = world.tenant.envelope(mail, "a@rcpt.test")
        place = world.tenant.place(envelope)
        if place.shard != 0:
            continue
        progress = Progress(attempt=1, recipients=(), due_at=now - timedelta(minutes=5))
        await world.watcher.bus.store(
            place.later, pack(Carriage(envelope=envelope, progress=progress), mail), stream="RETRY_0",
            schedule_at=now + timedelta(hours=1), schedule_target=place.due,
        )  # fmt: skip
        stored += 1
    bus, metrics = world.watcher.bus, Metrics(CollectorRegistry())
    sweep = Sweep(world.settings(**limits), 1, bus, Commits(bus, lambda: False), metrics)
    await asyncio.sleep(4.0)  # so old they must be, by the server's own clock
    assert [await sweep.sweep(0) for _ in turns] == turns


@pytest.mark.parametrize(("rate", "parked"), [(1_000.0, 11), (0.001, 1)])
async def test_what_is_parked_a_second(rate: float, parked: int, world: World) -> None:
    """What is blocked behind a busy tenant is parked at a pace; what is left when the worker stops is given back."""
    stream, name = await store(world, 12)
    limits: dict[str, Any] = {"tenant_concurrency": 1, "park_after_seconds": 0.1, "pull_batch": 11}
    async with working(world, **limits, park_messages_per_second=rate, drain_seconds=1.0) as (worker, patient):
        async with asyncio.timeout(LONG):
            while patient.parked < parked:
                await asyncio.sleep(0.01)  # a poll: the condition decides
        patient.let_go()
        await worker.drain()
        assert patient.parked == parked
    consumer = await world.watcher.bus.api(f"CONSUMER.INFO.{stream}.{name}")
    assert consumer["num_pending"] + consumer["num_redelivered"] + consumer["num_ack_pending"] >= 11 - parked
