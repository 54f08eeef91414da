"""The tracker against a real bus and a real database: what was published is what it tells."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from services.tracker.app import track
from services.tracker.settings import TrackerSettings
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.service import ask
from shared.contract import errors, requests, subjects
from shared.contract.envelope import Diagnosis, RecipientState
from shared.contract.errors import BusUnavailable, RequestFailed
from shared.contract.events import (
    Event,
    MessageAccepted,
    MessageAttempted,
    MessageHeld,
    StatusEvent,
    SubmissionRefused,
)
from shared.contract.requests import (
    CountMessages,
    DescribeMessage,
    DescribeRefusal,
    MessageCounts,
    MessageDescription,
    MessagesFound,
    RefusalDescription,
    SearchMessages,
)
from shared.contract.standing import Standing
from shared.mail.ids import new_queue_id, new_reference
from shared.runtime.lifecycle import Room
from tests.bus_server import BusServer
from tests.patience import SECONDS, tasks_of_a_block, until_seen

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
INSTANCE, CONFIGURATION = "i1", "c1"


def queue_id(number: int, at: datetime = NOON) -> str:
    return new_queue_id(int(at.timestamp() * 1000), number.to_bytes(13, "big"))


def accepted(number: int, *recipients: str, instance: str = INSTANCE, at: datetime = NOON) -> MessageAccepted:
    return MessageAccepted(
        id=f"a{number}", at=at, queue_id=queue_id(number, at), instance=instance, configuration=CONFIGURATION,
        lane="transactional", sender="app@Demo.example", recipients=recipients or ("ann@Example.org",), size=321,
        sha256="00", message_id=f"<m{number}@demo.example>", subject=f"Subject {number}", username="user01",
        client_address="192.0.2.7",
    )  # fmt: skip


def attempted(number: int, status: str, attempt: int = 1, code: int = 250, **more: object) -> MessageAttempted:
    at = NOON + timedelta(seconds=attempt)
    last = Diagnosis(code=code, enhanced=f"{code // 100}.7.1", text="as it is", host="mx.example.org")
    state = RecipientState(
        number=1, address="ann@Example.org", status=status, attempts=attempt, at=at, last=last  # type: ignore[arg-type]
    )  # fmt: skip
    return MessageAttempted(
        id=f"s{number}-{attempt}", at=at, queue_id=queue_id(number), instance=INSTANCE, configuration=CONFIGURATION,
        status=status, attempt=attempt, recipients=(state,), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def wipe(directory: Path) -> None:
    """Remove the database with its journals."""
    for file in directory.glob("tracker.sqlite*"):
        file.unlink()


class System:
    """A bus with the rooms that publish and ask, and trackers that come and go."""

    def __init__(self, server: BusServer, directory: Path) -> None:
        self.server = server
        self.settings = TrackerSettings(
            database_url=f"sqlite:///{directory / 'tracker.sqlite'}", wait_seconds=1, retry_seconds=0.1, batch=50
        )
        self.ingress: Bus
        self.delivery: Bus
        self.control: Bus

    async def publish(self, *events: Event) -> None:
        """Publish events as the rooms do."""
        for event in events:
            match event:
                case MessageAccepted():
                    await self.ingress.store(subjects.ACCEPTANCES, msgspec.json.encode(event), stream="ACCEPTED")
                case StatusEvent():
                    subject = subjects.status(event.instance, event.configuration, event.queue_id)
                    await self.delivery.store(subject, msgspec.json.encode(event), stream="STATUS")
                case SubmissionRefused():
                    subject = subjects.refused(event.instance, event.configuration)
                    await self.ingress.store(subject, msgspec.json.encode(event), stream="REFUSALS")

    @contextlib.asynccontextmanager
    async def tracker(self, settings: TrackerSettings | None = None) -> AsyncIterator[Room]:
        """Run a tracker."""
        async with tasks_of_a_block() as tasks:
            room = Room("tracker", tasks)
            room.log = logging.getLogger("tracker")
            bus_settings = self.server.settings("tracker")
            running = tasks.create_task(track(room, settings or self.settings, bus_settings, self.server.topology))
            try:
                yield room
            finally:
                room.stopping.set()
                await asyncio.wait([running], timeout=SECONDS)

    async def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Kill the server, do something to what it has stored, and start it again."""
        rooms = (self.ingress, self.delivery, self.control)
        self.server.kill()
        async with asyncio.timeout(60):
            while any(room.connected for room in rooms):
                await asyncio.sleep(0.02)
            meanwhile()
            self.server.start()
            while not all(room.connected for room in rooms):
                await asyncio.sleep(0.02)

    async def describe(self, number: int, **more: object) -> MessageDescription:
        """Ask for a message."""
        wish = DescribeMessage(queue_id=queue_id(number), **more)  # type: ignore[arg-type]
        return await ask(self.control, requests.MESSAGE, wish, MessageDescription)

    async def until(
        self, number: int, holds: Callable[[MessageDescription], bool], seconds: float = 60
    ) -> MessageDescription:
        """Ask for a message until something holds of it."""
        found: object = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        found = await self.describe(number)
                        if holds(found):
                            return found
                    except (RequestFailed, BusUnavailable) as fault:
                        found = fault
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"still {found}") from None

    async def search(self, **wish: object) -> MessagesFound:
        """Search."""
        return await ask(self.control, requests.SEARCH, SearchMessages(**wish), MessagesFound)  # type: ignore[arg-type]


@pytest.fixture
async def system(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[System]:
    """Give a test a bus with connected rooms."""
    made = System(bus_server, tmp_path)
    made.ingress = await bus_server.connect("ingress")
    made.delivery = await bus_server.connect("delivery")
    made.control = await bus_server.connect("control")
    yield made
    for bus in (made.ingress, made.delivery, made.control):
        await bus.close()


async def test_a_message_is_told_from_acceptance_to_delivery(system: System) -> None:
    """Status, explanation, timeline and traits of a message follow its events."""
    due = NOON + timedelta(days=36500)
    async with system.tracker():
        await system.publish(accepted(1))
        fresh = await system.until(1, lambda m: m.sender != "")
        assert fresh.status == "queued"
        assert fresh.why == "Queued: accepted at 2026-05-04 12:00:00Z, no attempt has been committed yet"
        assert [r.address for r in fresh.recipients] == ["ann@Example.org"]

        await system.publish(attempted(1, "deferred", code=451, next_attempt_at=due))
        deferred = await system.until(1, lambda m: m.status == "deferred")
        assert deferred.why.startswith("Deferred: 451 4.7.1 as it is by mx.example.org (attempt 1), next attempt at ")
        assert deferred.next_attempt_at == due

        await system.publish(attempted(1, "delivered", attempt=2))
        delivered = await system.until(1, lambda m: m.status == "delivered")
    assert delivered.why == "Delivered at 2026-05-04 12:00:02Z: 250 2.7.1 as it is by mx.example.org"
    assert [entry.what for entry in delivered.timeline] == ["accepted", "attempted", "attempted"]
    assert msgspec.json.decode(delivered.timeline[2].event, type=MessageAttempted) == attempted(1, "delivered", 2)
    assert (delivered.size, delivered.message_id, delivered.user) == (321, "<m1@demo.example>", "user01")
    assert delivered.recipients[0].attempts == 2


async def test_a_status_may_come_before_its_acceptance(system: System) -> None:
    """What was published in the wrong order is told in the right one."""
    async with system.tracker():
        await system.publish(attempted(1, "delivered"))
        early = await system.until(1, lambda m: m.status == "delivered")
        assert early.accepted_at == NOON  # by the queue ID
        await system.publish(accepted(1))
        whole = await system.until(1, lambda m: m.sender == "app@Demo.example")
    assert whole.status == "delivered"
    assert [entry.what for entry in whole.timeline] == ["accepted", "attempted"]


async def test_a_wiped_database_is_made_again_from_the_streams(system: System, tmp_path: Path) -> None:
    """Messages whose events were acked long ago are read again into an empty database."""
    numbers = range(1, 121)
    async with system.tracker():
        await system.publish(*(accepted(n) for n in numbers), *(attempted(n, "delivered") for n in numbers))
        await system.until(120, lambda m: m.status == "delivered" and m.sender != "")  # each stream comes to its end
        before = await system.search(limit=500)
    wipe(tmp_path)

    async with system.tracker():
        await system.until(120, lambda m: m.status == "delivered" and m.sender != "")
        await system.until(1, lambda m: m.status == "delivered" and m.sender != "")
        after = await system.search(limit=500)

    assert before.total == 120
    assert after == before


async def test_a_database_put_back_from_a_copy_catches_up(system: System, tmp_path: Path) -> None:
    """Events that were acked after the copy was made are read from the streams."""
    async with system.tracker():
        await system.publish(*(accepted(n) for n in range(1, 11)))
        await system.until(10, lambda m: m.sender != "")
    copy = (tmp_path / "tracker.sqlite").read_bytes()
    async with system.tracker():
        await system.publish(*(attempted(n, "delivered") for n in range(1, 11)), accepted(11))
        await system.until(11, lambda m: m.sender != "")
        await system.until(10, lambda m: m.status == "delivered")
    wipe(tmp_path)
    (tmp_path / "tracker.sqlite").write_bytes(copy)

    async with system.tracker():
        await system.until(11, lambda m: m.sender != "")
        await system.until(10, lambda m: m.status == "delivered")
        found = await system.search(status="delivered")
    assert found.total == 10


async def test_events_of_unknown_types_are_kept(system: System) -> None:
    """A record of a later version appears in the timeline and disturbs nothing."""
    unknown = {"type": "message.teleported.v9", "id": "x", "at": "2026-05-04T12:00:09Z", "queue_id": queue_id(1)}
    async with system.tracker():
        await system.publish(accepted(1))
        subject = subjects.status(INSTANCE, CONFIGURATION, queue_id(1))
        await system.delivery.store(subject, msgspec.json.encode(unknown), stream="STATUS")
        await system.delivery.store(subject, b"\xff not json \x00", stream="STATUS")
        await system.publish(attempted(1, "delivered"))
        told = await system.until(1, lambda m: m.status == "delivered" and len(m.timeline) == 4)
    assert [entry.what for entry in told.timeline] == ["accepted", "message.teleported.v9", "unreadable", "attempted"]
    assert msgspec.json.decode(told.timeline[1].event) == unknown


async def test_numbers_no_database_can_hold_end_nothing(system: System) -> None:
    """Such an event is kept aside, and those around it are told."""
    async with system.tracker():
        size = msgspec.structs.replace(accepted(1), size=2**63)
        await system.publish(accepted(2), size, attempted(3, "deferred", 1, 451), attempted(2, "delivered"))
        await system.publish(msgspec.structs.replace(attempted(3, "delivered", 2), attempt=2**63), accepted(3))
        await system.until(2, lambda m: m.status == "delivered" and m.sender != "")
        found = await system.until(3, lambda m: m.sender != "" and len(m.timeline) == 3)
    assert found.status == "deferred"


async def test_a_foreign_message_answers_like_an_unknown_one(system: System) -> None:
    """Whoever sees only other instances cannot tell a message from one that never was."""
    async with system.tracker():
        await system.publish(accepted(1), accepted(2, instance="i2"))
        await system.until(2, lambda m: m.sender != "")

        faults = []
        for number in (2, 99):
            with pytest.raises(RequestFailed) as failure:
                await system.describe(number, instances=("i1",))
            faults.append((failure.value.code, failure.value.message))
        with pytest.raises(RequestFailed) as malformed:
            await ask(system.control, requests.MESSAGE, DescribeMessage(queue_id="nonsense"), MessageDescription)
        assert (await system.describe(1, instances=("i1",))).queue_id == queue_id(1)
        assert (await system.search(instances=("i1",))).total == 1
        assert (await system.search(instances=())).total == 0
    assert faults[0] == faults[1]
    assert faults[0][0] == malformed.value.code == errors.MESSAGE_UNKNOWN


async def test_searches_find_by_every_trait(system: System) -> None:
    """Message-ID, recipient, sender, status, configuration and time, alone and together, newest first."""
    later = NOON + timedelta(hours=1)
    async with system.tracker():
        await system.publish(
            accepted(1), accepted(2, "bob@b.example", "cy@c.example"), accepted(3, at=later), attempted(1, "bounced")
        )
        await system.until(1, lambda m: m.status == "bounced" and m.sender != "")

        async def all_known() -> bool:
            return (await system.search()).total == 3

        await until_seen("all are known", all_known)

        async def found(**wish: object) -> list[str]:
            result = await system.search(**wish)
            assert result.total == len(result.messages)
            return [message.subject for message in result.messages]

        assert await found() == ["Subject 3", "Subject 2", "Subject 1"]
        assert await found(message_id="<m2@demo.example>") == ["Subject 2"]
        assert await found(message_id="m2@demo.example") == ["Subject 2"]
        assert await found(recipient="ANN@example.ORG") == ["Subject 3", "Subject 1"]
        assert await found(recipient="@c.example") == ["Subject 2"]
        assert await found(sender="app@demo.example", since=later) == ["Subject 3"]
        assert await found(status="bounced") == ["Subject 1"]
        assert await found(configuration="other") == []
        assert await found(until=later, status="queued") == ["Subject 2"]
        page = await system.search(limit=1, offset=1)
        assert (page.total, len(page.messages)) == (3, 1)
        assert (await system.search(recipient="cy@c.example")).messages[0].recipients == (
            "bob@b.example", "cy@c.example",
        )  # fmt: skip
        with pytest.raises(RequestFailed) as failure:
            await system.search(limit=0)
    assert failure.value.code == errors.BAD_REQUEST


async def test_a_refusal_is_explained_by_its_reference(system: System) -> None:
    """The true reason is found by the reference, and only by those who may see it."""
    reference = new_reference(b"seven77")
    event = SubmissionRefused(
        id="r", at=NOON, reference=reference, code=535, enhanced="5.7.8", reply="Authentication failed", phase="auth",
        reason="the address 192.0.2.7 is covered by no rule", instance=INSTANCE, client_address="192.0.2.7",
    )  # fmt: skip
    async with system.tracker():
        await system.publish(event, accepted(1))

        async def looked_up(instances: tuple[str, ...] | None) -> RefusalDescription:
            wish = DescribeRefusal(reference=reference.lower(), instances=instances)
            return await ask(system.control, requests.REFUSAL, wish, RefusalDescription)

        async with asyncio.timeout(60):
            while True:
                try:
                    told = await looked_up(None)
                    break
                except (RequestFailed, BusUnavailable):
                    await asyncio.sleep(0.05)
        assert (await looked_up((INSTANCE,))) == told
        with pytest.raises(RequestFailed) as failure:
            await looked_up(("i2",))
    assert failure.value.code == errors.REFERENCE_UNKNOWN
    assert "covered by no rule" in told.sentence
    assert msgspec.json.decode(told.event, type=SubmissionRefused) == event


async def test_counts_follow_what_became_of_recipients(system: System) -> None:
    """Submitted, delivered, bounced and once deferred recipients are counted in the minute it happened."""
    async with system.tracker():
        await system.publish(
            accepted(1), accepted(2), accepted(3, "x@x.example", "y@x.example"),
            attempted(1, "deferred", code=451), attempted(1, "delivered", attempt=70),
            attempted(2, "bounced", code=550),
        )  # fmt: skip
        await system.until(1, lambda m: m.status == "delivered" and m.sender != "")
        await system.until(2, lambda m: m.status == "bounced")
        await system.until(3, lambda m: m.sender != "")
        wish = CountMessages(
            instance=INSTANCE, configuration=CONFIGURATION, since=NOON, until=NOON + timedelta(minutes=3),
            bucket_seconds=60,
        )  # fmt: skip
        counts = await ask(system.control, requests.COUNT, wish, MessageCounts)
        foreign = await ask(system.control, requests.COUNT, msgspec.structs.replace(wish, instance="i2"), MessageCounts)
    shown = [(b.submitted, b.success, b.bounced, b.deferred) for b in counts.buckets]
    assert shown == [(4, 0, 1, 1), (0, 1, 0, 0), (0, 0, 0, 0)]
    assert counts.buckets[0].at == NOON
    assert {(b.submitted, b.success) for b in foreign.buckets} == {(0, 0)}


async def test_a_held_message_is_explained_by_the_present_standing(system: System, bus_server: BusServer) -> None:
    """While sending is suspended, the sentence names what the verifier misses."""
    verifier = await bus_server.connect("verifier")
    standings: Bucket[Standing] = Bucket(verifier, "standing", Standing)
    standing = Standing(
        configuration=CONFIGURATION, instance=INSTANCE, domain="demo.example", state="suspended", since=NOON,
        reason="the SPF record is missing",
    )  # fmt: skip
    await standings.put(CONFIGURATION, standing)
    held = MessageHeld(
        id="h", at=NOON, queue_id=queue_id(1), instance=INSTANCE, configuration=CONFIGURATION, status="held",
        attempt=0, recipients=(RecipientState(number=1, address="ann@Example.org", status="held"),),
    )  # fmt: skip
    async with system.tracker():
        await system.publish(accepted(1), held)
        told = await system.until(1, lambda m: m.status == "held" and m.sender != "")
    assert told.why == (
        "Held: sending for demo.example is suspended: the SPF record is missing;"
        " it goes on its way when sending is allowed again"
    )
    await verifier.close()


async def test_it_goes_on_after_the_bus_was_killed(system: System) -> None:
    """Events published before, and after, a crash of the server are all told."""
    async with system.tracker():
        await system.publish(*(accepted(n) for n in range(1, 31)))
        await system.until(30, lambda m: m.sender != "")
        await system.restart()
        await system.publish(*(attempted(n, "delivered") for n in range(1, 31)))
        await system.until(30, lambda m: m.status == "delivered")
        found = await system.search(status="delivered", limit=100)
    assert found.total == 30


async def test_streams_put_back_from_a_backup_tell_what_is_new(system: System, tmp_path: Path) -> None:
    """They count again from where the backup was made, and what they store then is newer than all that is known."""
    store, backup = system.server.directory / "store", tmp_path / "backup"

    def tries(message: MessageDescription) -> int:
        return sum(recipient.attempts for recipient in message.recipients)

    def put_back() -> None:
        shutil.rmtree(store)
        shutil.copytree(backup, store)

    async with system.tracker():
        await system.publish(accepted(1), attempted(1, "deferred", 1, 451))
        await system.until(1, lambda m: tries(m) == 1)
        await system.restart(lambda: shutil.copytree(store, backup))
        await system.publish(*(attempted(1, "deferred", attempt, 451) for attempt in (2, 3, 4)))
        await system.until(1, lambda m: tries(m) == 4)
        await system.restart(put_back)
        await system.publish(attempted(1, "delivered", 2))
        found = await system.until(1, lambda m: m.status == "delivered")
    assert tries(found) == 2
