"""What one destination took is committed while another keeps the attempt waiting: a crash repeats only the rest."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import msgspec
import pytest

from services.delivery import dispatch
from services.delivery.core import record, step
from services.delivery.core.outcome import Bounced, Delivered
from shared.contract.envelope import Carriage, Diagnosis, Envelope
from shared.contract.errors import BusUnavailable
from shared.contract.events import AnyStatus, MessageAttempted, MessageHeld
from shared.runtime import clock
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import Tenant, delivering
from tests.delivery.test_queue import act
from tests.delivery.test_reports import home, reports
from tests.delivery.test_resume import commit
from tests.delivery.world import PROGRAM, World
from tests.patience import until_seen

OK = b"250 2.0.0 stored\r\n"
NEVER = "from services.delivery import dispatch; dispatch.KNOWN_SECONDS = 1e9; "
HANGS = (120.0, OK)
"""For as long as a test may take; who waits is answered by `disturb`."""


async def silent(world: World, host: str, domain: str) -> Exchanger:
    """Start another destination."""
    world.dns.set(domain, "MX", f"10 mx.{domain}.")
    world.dns.set(f"mx.{domain}", "A", host)
    return await Exchanger().start(host, world.exchanger.port)


@pytest.fixture
async def slow(world: World) -> AsyncIterator[Exchanger]:
    """Give a second destination, `slow.test`."""
    async with await silent(world, "127.0.0.2", "slow.test") as exchanger:
        yield exchanger


async def until_known(world: World, envelope: Envelope, status: str, number: int = 1) -> AnyStatus:
    """Wait until one recipient's status is recorded, whatever became of the others."""
    last: AnyStatus | None = None

    async def recorded() -> bool:
        nonlocal last
        with contextlib.suppress(BusUnavailable):  # one test crashes the server on purpose
            last = await world.watcher.last(envelope)
        return last is not None and last.recipients[number - 1].status == status

    await until_seen(f"recipient {number} is {status}", recorded, 60)
    assert last is not None
    return last


async def tried_and_held(world: World, envelope: Envelope) -> bool:
    """Return whether both recipients were tried, one with success, and the other is held: two records tell of it."""
    last = await world.watcher.last(envelope)
    told = [(r.status, r.attempts) for r in last.recipients] if isinstance(last, MessageHeld) else []
    return told == [("delivered", 1), ("held", 1)]


@pytest.mark.parametrize("early", [True, False])
async def test_killed_while_one_destination_hangs(early: bool, world: World, slow: Exchanger) -> None:
    """The next worker sends only to who was not decided, and doubts only who was at the dot; without early commits
    everybody has it twice.
    """  # noqa: D205
    slow.script["FINAL"] = [HANGS, (OK,)]
    once = Tenant(world.server, "once")
    await once.open()
    await once.directory.put(
        f"configuration.{once.configuration}", msgspec.structs.replace(once.record, at_most_once=True)
    )
    async with await silent(world, "127.0.0.3", "slower.test") as slower:
        slower.script["DATA"] = [HANGS, HANGS, (b"354 go\r\n",)]
        child = await asyncio.to_thread(partial(world.process, program=PROGRAM if early else NEVER + PROGRAM))
        try:
            past = await world.tenant.accept("a@rcpt.test", "b@slow.test", sender="")
            before = await world.tenant.accept("c@rcpt.test", "d@slower.test", sender="")
            given_up = await once.accept("e@rcpt.test", "f@slower.test", sender="")
            await world.exchanger.until(lambda: len(world.exchanger.received) == 3, 60)
            await slow.until(lambda: len(slow.seen) == 1)
            await slower.until(lambda: len(slower.uses(b"DATA")) == 2)
            for envelope in (past, before, given_up) if early else ():
                await until_known(world, envelope, "delivered")
            child.send_signal(signal.SIGKILL)
            child.wait(60)
        finally:
            child.kill()
            child.wait(60)
        async with delivering(world.server, world.settings()):
            ends = [await world.watcher.until(e, "delivered", seconds=90) for e in (past, before)]
            ends.append(await world.watcher.until(given_up, "bounced", seconds=90))
            await world.watcher.until_empty(60)
        doubted = [[r.possible_duplicate for r in event.recipients] for event in ends]
        taken = sorted(message.recipients[0] for message in world.exchanger.received)
        if not early:
            assert taken == ["a@rcpt.test", "a@rcpt.test", "c@rcpt.test", "c@rcpt.test", "e@rcpt.test"]
            assert doubted[0] == [True, True]
            assert ends[2].recipients[0].status == "bounced"  # given up, although it was delivered
        else:
            assert taken == ["a@rcpt.test", "c@rcpt.test", "e@rcpt.test"]
            assert doubted == [[False, True], [False, False], [False, False]]
            assert [event.attempt for event in ends] == [2, 2, 2]
            assert [r.attempts for event in ends[:2] for r in event.recipients] == [1, 1, 1, 1]
            assert [r.status for r in ends[2].recipients] == ["delivered", "bounced"]
        assert len(slow.seen) == 2
        assert [message.recipients for message in slower.received] == [["d@slower.test"]]
    await once.close()


async def test_a_drain_that_does_not_wait_for_a_dot(world: World, slow: Exchanger) -> None:
    """A worker is stopped while one destination does not answer its dot: what the other one took is on record."""
    slow.script["FINAL"] = [HANGS]
    async with delivering(world.server, world.settings(drain_seconds=8.0)):
        envelope = await world.tenant.accept("a@rcpt.test", "b@slow.test", sender="")
        await world.exchanger.until(lambda: len(world.exchanger.received) == 1)
        await slow.until(lambda: len(slow.seen) == 1)
    last = await world.watcher.last(envelope)
    assert last is not None
    assert [r.status for r in last.recipients] == ["delivered", "queued"]


async def test_each_recipient_is_recorded_and_reported_once(world: World, slow: Exchanger) -> None:
    """A refusal before the early commit and one after it: two reports, one each, and every recipient counts once."""
    home(world)
    world.exchanger.by_recipient["gone@rcpt.test"] = [(b"550 5.1.1 unknown\r\n",)]
    slow.script["FINAL"] = [HANGS]
    async with delivering(world.server, world.settings()) as here:
        envelope = await world.tenant.accept("a@rcpt.test", "gone@rcpt.test", "b@slow.test")
        first = await until_known(world, envelope, "bounced", 2)
        await world.exchanger.until(lambda: len(reports(world)) == 1)
        await slow.disturb(b"550 5.7.1 not this one\r\n")
        event = await world.watcher.until(envelope, "bounced")
        await world.exchanger.until(lambda: len(reports(world)) == 2)
        await world.watcher.until_empty()

        def counted(name: str, **labels: str) -> float | None:
            return here.metrics.get_sample_value(f"postlane_delivery_{name}_total", labels)

        assert counted("recipients", status="bounced") == 2
        assert counted("recipients", status="delivered") == 3  # with both reports
        assert counted("recipients", status="queued") is None
        assert counted("attempts", lane="transactional") == 3
    assert isinstance(first, MessageAttempted)
    assert isinstance(event, MessageAttempted)
    assert [r.status for r in first.recipients] == ["delivered", "bounced", "queued"]
    assert first.next_attempt_at is None
    assert "the attempt goes on" in first.explanation
    assert "goes on" not in event.explanation
    assert [[t.host for t in e.exchangers] for e in (first, event)] == [["mx.rcpt.test"], ["mx.slow.test"]]
    assert [r.attempts for r in event.recipients] == [1, 1, 1]
    assert [e.attempt for e in await world.watcher.history(envelope)] == [1, 2]
    texts = [message.data for message in reports(world)]
    assert [[name in text for text in texts] for name in (b"; gone@rcpt.test", b"; b@slow.test")] == [
        [True, False],
        [False, True],
    ]


async def test_early_commit_and_no_report_yet(world: World, slow: Exchanger) -> None:
    """A worker died between the early commit and its report: it is made then, and the attempt's other one later."""
    home(world)
    slow.by_recipient["b@slow.test"] = [(b"550 5.1.1 unknown\r\n",)]
    envelope = await world.tenant.accept("a@rcpt.test", "gone@rcpt.test", "b@slow.test")
    gone = Diagnosis(code=550, enhanced="5.1.1", text="unknown", phase="rcpt", host="mx.rcpt.test")
    taken = Diagnosis(code=250, enhanced="2.0.0", text="ok", phase="final", host="mx.rcpt.test")
    now = clock.now()
    state = step.known(Carriage(envelope=envelope), None, 0)
    states = step.apply(state, {1: Delivered(diagnosis=taken), 2: Bounced(diagnosis=gone, kind="mailbox")}, now)
    event = record.attempted(
        envelope, states, attempt=1, event_id=str(uuid4()), now=now, started=now, next_at=None, tried=(), goes_on=True
    )
    await commit(world, envelope, event)
    async with delivering(world.server, world.settings()):
        await world.watcher.until(envelope, "bounced")
        await world.exchanger.until(lambda: len(reports(world)) == 2)
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == 2  # the reports, and nothing for a@rcpt.test
    assert sorted(b"; b@slow.test" in message.data for message in reports(world)) == [False, True]


async def test_who_is_in_doubt_is_committed_early_once(world: World, slow: Exchanger) -> None:
    """A lost reply to the dot is on record before the attempt ends, as one attempt, and its delay is told once."""
    home(world)
    slow.script["FINAL"] = [HANGS]
    async with await silent(world, "127.0.0.3", "lossy.test") as lossy:
        lossy.script["FINAL"] = [(None,), (OK,)]
        async with delivering(world.server, world.settings(delay_report_seconds=0.001)):
            envelope = await world.tenant.accept("a@lossy.test", "b@slow.test")
            first = await until_known(world, envelope, "deferred")
            assert reports(world) == []
            await slow.disturb(OK)
            event = await world.watcher.until(envelope, "delivered")
            await world.watcher.until_empty()
        assert len(lossy.seen) == 2
    assert first.recipients[0].possible_duplicate
    assert [(r.status, r.possible_duplicate) for r in event.recipients] == [("delivered", True), ("delivered", False)]
    history = await world.watcher.history(envelope)
    assert [[r.attempts for r in e.recipients] for e in history] == [[1, 0], [1, 1], [2, 1]]
    (report,) = reports(world)
    assert b"; a@lossy.test" in report.data


@pytest.mark.parametrize(("action", "early"), [("hold", True), ("hold", False), ("drop", True)])
async def test_an_operator_acts_meanwhile(action: str, early: bool, world: World, slow: Exchanger) -> None:
    """Before or after the early commit, what was done is in the record, once and unmarked, and the wish counts."""
    slow.script["FINAL"] = [HANGS, (OK,)]
    if not early:
        world.exchanger.script["FINAL"] = [HANGS]
    async with delivering(world.server, world.settings(connection_idle_seconds=0.0)):
        envelope = await world.tenant.accept("a@rcpt.test", "b@slow.test", sender="")
        await slow.until(lambda: len(slow.seen) == 1)
        if early:
            await until_known(world, envelope, "delivered")
        else:
            await world.exchanger.until(lambda: len(world.exchanger.seen) == 1)
        await act(world, envelope, action)
        if not early:
            await world.exchanger.disturb(OK)
        if action == "hold":
            await slow.disturb(b"450 4.2.1 later\r\n")
            await until_seen("the attempt's end is in the hold", partial(tried_and_held, world, envelope))
            assert (await act(world, envelope, "release")).endswith("goes on its way.")
        else:
            await slow.disturb(OK)
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert not any(r.possible_duplicate for r in event.recipients)
    assert len(world.exchanger.seen) == 1
    assert len(slow.seen) == (2 if action == "hold" else 1)


async def test_nothing_is_committed_early_without_need(
    world: World, slow: Exchanger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One destination however slow, or several that are quick: one record. Who was only deferred is not in a hurry."""
    world.exchanger.script["FINAL"] = [(2.0, OK), (OK,)]
    slow.script["MAIL"] = [(b"250 ok\r\n",), (2.0, b"250 ok\r\n")]
    async with delivering(world.server, world.settings()):
        alone = await world.tenant.accept("a@rcpt.test", "b@rcpt.test")
        await world.watcher.until(alone, "delivered")
        with monkeypatch.context() as patient:
            patient.setattr(dispatch, "KNOWN_SECONDS", 60.0)  # on a busy machine what is quick may take a second
            quick = await world.tenant.accept("a@rcpt.test", "b@slow.test")
            await world.watcher.until(quick, "delivered")
        world.exchanger.by_recipient["c@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (b"250 ok\r\n",)]
        deferred = await world.tenant.accept("c@rcpt.test", "d@slow.test")
        await world.watcher.until(deferred, "delivered")
        await world.watcher.until_empty()
    histories = [[e.attempt for e in await world.watcher.history(each)] for each in (alone, quick, deferred)]
    assert histories == [[1], [1], [1, 2]]


async def test_the_wait_is_that_of_the_attempts_made(world: World, slow: Exchanger) -> None:
    """An early commit takes a number but no place in the schedule of waits."""
    slow.script["FINAL"] = [HANGS, (OK,)]
    async with delivering(world.server, world.settings(retry_waits_seconds=(0.3, 3600.0), connection_idle_seconds=0.0)):
        envelope = await world.tenant.accept("a@rcpt.test", "b@slow.test")
        await until_known(world, envelope, "delivered")
        await slow.disturb(b"450 4.2.1 later\r\n")
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert [r.attempts for r in event.recipients] == [1, 2]
    assert [e.attempt for e in await world.watcher.history(envelope)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("where", "said"), [("FINAL", "it cannot be announced"), ("GREETING", "the commit is not certain yet")]
)
async def test_the_bus_goes_away_at_the_early_commit(
    where: str, said: str, world: World, slow: Exchanger, caplog: pytest.LogCaptureFixture
) -> None:
    """It is repeated until the bus is back, then the attempt's own record follows; nothing is sent or marked twice."""
    slow.script[where] = [HANGS, (b"220 mx\r\n",)]
    world.exchanger.script["FINAL"] = [HANGS]

    async def noticed() -> bool:
        return said in caplog.text

    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test", "b@slow.test")
        await world.exchanger.until(lambda: len(world.exchanger.seen) == 1)
        await slow.until(lambda: bool(slow.seen) if where == "FINAL" else slow.connections == 1)
        world.server.kill()
        await world.exchanger.disturb(OK)
        await until_seen("the early commit fails", noticed)
        world.server.start()
        first = await until_known(world, envelope, "delivered")
        assert first.status == "queued"
        await slow.disturb(OK if where == "FINAL" else None)
        event = await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert not any(r.possible_duplicate for r in event.recipients)
    assert (len(world.exchanger.seen), len(slow.seen)) == (1, 1)


async def test_several_early_commits(world: World, slow: Exchanger) -> None:
    """Each has its number, and who is decided last is doubted only if the worker dies: here it lives."""
    slow.script["FINAL"] = [HANGS]
    async with await silent(world, "127.0.0.3", "slower.test") as slower:
        slower.script["FINAL"] = [HANGS]
        async with delivering(world.server, world.settings()):
            envelope = await world.tenant.accept("a@rcpt.test", "b@slow.test", "c@slower.test")
            await until_known(world, envelope, "delivered")
            await slower.until(lambda: len(slower.seen) == 1)
            await slow.until(lambda: len(slow.seen) == 1)
            await slow.disturb(OK)
            await until_known(world, envelope, "delivered", 2)
            await slower.disturb(OK)
            event = await world.watcher.until(envelope, "delivered")
            await world.watcher.until_empty()
    history = await world.watcher.history(envelope)
    assert [e.attempt for e in history] == [1, 2, 3]
    assert [e.status for e in history] == ["queued", "queued", "delivered"]
    assert [r.at for r in event.recipients] == [e.at for e in history]
    assert not any(r.possible_duplicate for r in event.recipients)
