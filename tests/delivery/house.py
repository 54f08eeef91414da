"""A tenant, its messages and a running delivery, for tests with a real nats-server."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.delivery.app import room
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.contract import subjects
from shared.contract.envelope import Carriage, Envelope, Recipient, pack
from shared.contract.errors import BusUnavailable
from shared.contract.events import AnyStatus
from shared.contract.records import (
    Authorization,
    Configuration,
    DirectoryRecord,
    DkimKey,
    Lane,
    Questionnaire,
    Suspension,
)
from shared.contract.standing import Standing, StandingState
from shared.contract.subjects import Place, shard_of, slot_of
from shared.mail.ids import RANDOM_BYTES, new_queue_id
from shared.runtime.lifecycle import Room
from shared.runtime.sealing import seal
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block, until, until_seen

MASTER_KEY = b"m" * 32
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
T0 = datetime(2026, 11, 1, tzinfo=UTC)
_counter = iter(range(1, 1 << 30))


def dkim_answer(name: bytes, timeout: int = 5) -> bytes:
    """Serve the tenant's public key to dkimpy."""
    der = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


class Tenant:
    """A configuration, written to the bus by the rooms that own its parts."""

    def __init__(self, server: BusServer, name: str = "acme", lane: Lane = "transactional") -> None:
        self.server = server
        self.instance = f"instance-{name}"
        self.configuration = f"configuration-{name}"
        self.domain = f"{name}.example"
        self.lane: Lane = lane
        self.control: Bus | None = None
        self.verifier: Bus | None = None
        self.ingress: Bus | None = None
        self.record: Configuration
        """The configuration as it was written; there once it is open."""

    async def open(self, *, key: bool = True, reply_to: str = "", lifetime_seconds: int | None = None) -> None:
        """Write everything a configuration needs to send."""
        self.control = await self.server.connect("control")
        self.verifier = await self.server.connect("verifier")
        self.ingress = await self.server.connect("ingress")
        self.record = Configuration(
            id=self.configuration,
            instance=self.instance,
            name="main",
            domain=self.domain,
            selector="sel",
            dkim_value="",
            spf_value="",
            created_at=T0,
            updated_at=T0,
            reply_to=reply_to,
            lifetime_seconds=lifetime_seconds,
        )
        await self.directory.put(f"configuration.{self.configuration}", self.record)
        await self.authorize("approved")
        await self.stand("verified")
        if key:
            await self.give_key()

    async def close(self) -> None:
        """Leave the bus."""
        for bus in (self.control, self.verifier, self.ingress):
            if bus is not None:
                await bus.close()

    @property
    def directory(self) -> Bucket[DirectoryRecord]:
        """The bucket, as control."""
        assert self.control is not None
        return Bucket(self.control, "directory", DirectoryRecord)

    async def give_key(self) -> None:
        """Write the DKIM key."""
        assert self.control is not None
        pkcs8 = KEY.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        record = DkimKey(
            configuration=self.configuration,
            domain=self.domain,
            selector="sel",
            algorithm="rsa-sha256",
            sealed=seal(MASTER_KEY, pkcs8, f"dkim.{self.configuration}"),
        )
        keys: Bucket[DkimKey] = Bucket(self.control, "keys", DkimKey)
        await keys.put(f"dkim.{self.configuration}", record)

    async def authorize(self, status: Any) -> None:
        """Write the operator's decision."""
        questionnaire = Questionnaire(
            nature="transactional", website="", list_source="", bounces_and_complaints="", unsubscribe="",
            quota_rationale="", list_cleaning="", contacts=("a@b.example",), reply_to="a@b.example",
            only_to_requesters=True, unsubscribe_link=True,
        )  # fmt: skip
        record = Authorization(
            configuration=self.configuration,
            instance=self.instance,
            status=status,
            questionnaire=questionnaire,
            submitted_at=T0,
        )
        await self.directory.put(f"authorization.{self.configuration}", record)

    async def stand(self, state: StandingState, reason: str = "records found") -> None:
        """Write the standing, as the verifier."""
        assert self.verifier is not None
        bucket: Bucket[Standing] = Bucket(self.verifier, "standing", Standing)
        record = Standing(
            configuration=self.configuration,
            instance=self.instance,
            domain=self.domain,
            state=state,
            reason=reason,
            since=T0,
        )
        await bucket.put(self.configuration, record)

    async def suspend(self, reason: str) -> None:
        """Write an operator's suspension."""
        record = Suspension(configuration=self.configuration, reason=reason, by="op", at=T0)
        await self.directory.put(f"suspension.{self.configuration}", record)

    def envelope(self, mail: bytes, *recipients: str | Recipient, **more: Any) -> Envelope:
        """Return the envelope of a message as ingress makes it."""
        number = next(_counter)
        now = datetime.now(UTC)
        queue_id = new_queue_id(int(now.timestamp() * 1000), number.to_bytes(RANDOM_BYTES, "big"))
        values: dict[str, Any] = {
            "queue_id": queue_id,
            "instance": self.instance,
            "configuration": self.configuration,
            "domain": self.domain,
            "lane": self.lane,
            "sender": f"app@{self.domain}",
            "recipients": tuple(
                r if isinstance(r, Recipient) else Recipient(number=n, address=r)
                for n, r in enumerate(recipients, start=1)
            ),
            "received_at": now,
            "expires_at": None,
            "size": len(mail),
            "sha256": sha256(mail).hexdigest(),
            "message_id": f"<{number}@{self.domain}>",
            "subject": "hello",
            "user": "u1",
        }
        return Envelope(**(values | more))

    def mail(self, text: bytes = b"hello\r\n") -> bytes:
        """Return the octets of a mail."""
        head = (
            f"From: App <app@{self.domain}>\r\nTo: x@y.example\r\nSubject: hello\r\nMessage-ID: <1@{self.domain}>\r\n"
        )
        return head.encode() + b"\r\n" + text

    def place(self, envelope: Envelope, *, crowded: bool = False) -> Place:
        """Return where a message lies."""
        topology = self.server.topology
        return Place(
            shard_of(envelope.queue_id, topology.shards),
            envelope.lane,
            slot_of(envelope.configuration, topology.slots, crowded=crowded),
            envelope.configuration,
            envelope.queue_id,
        )

    async def accept(self, *recipients: str | Recipient, text: bytes = b"hello\r\n", **more: Any) -> Envelope:
        """Store a fresh message as ingress does; return its envelope."""
        assert self.ingress is not None
        mail, crowded = more.pop("mail", self.mail(text)), more.pop("crowded", False)
        envelope = self.envelope(mail, *recipients, **more)
        place = self.place(envelope, crowded=crowded)
        await self.ingress.store(
            place.ready, pack(Carriage(envelope=envelope), mail), stream=f"MAIL_{place.shard}", expected_last=0
        )
        return envelope


class Watcher:
    """Reads STATUS and the queues as delivery may."""

    def __init__(self, bus: Bus, server: BusServer) -> None:
        self.bus = bus
        self.server = server

    async def last(self, envelope: Envelope) -> AnyStatus | None:
        """Return the last status record of a message."""
        subject = subjects.status(envelope.instance, envelope.configuration, envelope.queue_id)
        stored = await self.bus.last("STATUS", subject)
        return msgspec.json.decode(stored.payload, type=AnyStatus) if stored is not None else None

    async def history(self, envelope: Envelope) -> list[AnyStatus]:
        """Return every status record of a message."""
        subject = subjects.status(envelope.instance, envelope.configuration, envelope.queue_id)
        return [
            msgspec.json.decode(stored.payload, type=AnyStatus) async for stored in self.bus.scan("STATUS", subject)
        ]

    async def until(self, envelope: Envelope, *statuses: str, seconds: float = 60) -> AnyStatus:
        """Wait until a message has one of these states."""
        last: AnyStatus | None = None

        async def reached() -> bool:
            nonlocal last
            with contextlib.suppress(BusUnavailable):  # some tests crash the server on purpose
                last = await self.last(envelope)
            return last is not None and last.status in statuses

        await until_seen(f"the message is {' or '.join(statuses)}", reached, seconds)
        assert last is not None
        return last

    async def until_empty(self, seconds: float = 60) -> None:
        """Wait until no message is on the mail path."""

        async def empty() -> bool:
            with contextlib.suppress(BusUnavailable):
                return not await self.queued()
            return False

        await until_seen("nothing is queued", empty, seconds)

    async def queued(self) -> list[str]:
        """Return the subjects of everything on the mail path."""
        found: list[str] = []
        for shard in range(self.server.topology.shards):
            for stream, root in ((f"MAIL_{shard}", "mail"), (f"RETRY_{shard}", "retry")):
                found += (await self.bus.stream_state(stream, f"postlane.{root}.{shard}.>")).subjects
        return found


def delivery_settings(directory: Path, **more: Any) -> DeliverySettings:
    """Return settings for a delivery on loopback that retries within a second."""
    key = directory / "master.key"
    key.write_text(base64.b64encode(MASTER_KEY).decode())
    values: dict[str, Any] = {
        "master_key_file": key,
        "ehlo_name": "relay.test",
        "allowed_networks": ("127.0.0.0/8", "::1"),
        "retry_waits_seconds": (0.3,),
        "retry_jitter": 0.0,
        "release_spread_seconds": 0.0,
        "reconcile_seconds": 0.5,
        "sweep_seconds": 0.5,
        "drain_seconds": 3.0,
        "dns_timeout_seconds": 10.0,
    }
    return DeliverySettings(**(values | more))


START_SECONDS = 60.0
END_SECONDS = 60.0
"""More than a drain, and what must be cancelled twice."""


@asynccontextmanager
async def delivering(server: BusServer, settings: DeliverySettings) -> AsyncIterator[Room]:
    """Run delivery in this process for the length of a block, and drain it at the end."""
    started: asyncio.Future[Room] = asyncio.get_running_loop().create_future()

    async def live() -> None:
        async with tasks_of_a_block() as tasks:
            here = Room("delivery", tasks)
            here.conditions.set("start", True)
            started.set_result(here)
            await room(settings, server.settings("delivery"), server.topology)(here)

    task = asyncio.create_task(live())
    here = await started
    try:
        await until("delivery is ready or has ended", lambda: task.done() or not here.conditions.failing, START_SECONDS)
        if task.done():
            await task
        yield here
    finally:
        here.stopping.set()
        async with asyncio.timeout(END_SECONDS):
            await task
