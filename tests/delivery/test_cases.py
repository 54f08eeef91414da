"""The delivery faults L01 to L20 by their numbers: where each is shown, and tests of what is shown nowhere else.

A tap sees every connection this process tries to make, so "not contacted" means that no packet was sent.
"""

import ast
import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.delivery.core.outcome import Bounced, Deferred, Delivered
from services.delivery.core.route import ADDRESSES_LIMIT, EXCHANGERS_LIMIT, TRIES_LIMIT
from services.delivery.settings import DeliverySettings
from shared.contract.events import MessageAttempted
from shared.runtime import clock
from tests.delivery.exchanger import Exchanger
from tests.delivery.house import delivering
from tests.delivery.test_courier import OK, field, only
from tests.delivery.world import World

ROOT = Path(__file__).parents[2]
SHOWN: dict[str, tuple[str, ...]] = {
    "L01 odd replies": ("delivery/test_courier.py::test_replies", "delivery/test_courier.py::test_next_exchanger"),
    "L01 a refusal in the middle of a message": (
        "delivery/test_reuse.py::test_what_is_said_in_the_middle_of_a_message",
    ),
    "L01 late final reply": ("delivery/test_cases.py::test_l01_a_late_reply_to_the_dot_is_waited_for",),
    "L02 kills at random": ("faults/test_delivery_ledger.py::test_nothing_is_lost",),
    "L02 killed before the dot": ("delivery/test_cases.py::test_l02_killed_before_the_dot",),
    "L02 killed after the dot": ("delivery/test_resume.py::test_killed_after_the_dot",),
    "L02 killed after the commit": (
        "delivery/test_resume.py::test_delivered_but_not_acked",
        "delivery/test_resume.py::test_deferred_but_successor_not_published",
        "delivery/test_resume.py::test_successor_published_but_not_acked",
    ),
    "L03 three recipients, three answers": (
        "delivery/test_cases.py::test_l03_three_answers",
        "delivery/test_worker.py::test_retries_only_the_open_recipient",
    ),
    "L04 421 in the middle": ("delivery/test_courier.py::test_421_between_recipients",),
    "L05 nobody accepted, DATA accepted": (
        "delivery/test_courier.py::test_no_body_without_recipients",
        "delivery/test_courier.py::test_pipelining",
        "delivery/test_reuse.py::test_a_server_that_waits_for_a_message_is_cut",
    ),
    "L06 internal addresses": (
        "delivery/test_cases.py::test_l06_no_packet_to_internal_addresses",
        "unit/delivery/test_reach.py::test_never",
    ),
    "L07 rebinding": ("delivery/test_cases.py::test_l07_connects_to_the_address_that_was_validated",),
    "L07 CNAME to inside": ("delivery/test_cases.py::test_l07_an_alias_of_something_internal",),
    "L07 caps": ("delivery/test_cases.py::test_l07_caps",),
    "L08 null MX": ("delivery/test_cases.py::test_l08_null_mx_without_a_packet",),
    "L09 DNS shapes": (
        "delivery/test_courier.py::test_dns_shapes",
        "delivery/test_courier.py::test_dns_faults",
        "delivery/test_courier.py::test_family_falls_back",
        "delivery/test_exchangers.py::test_not_knowing_is_not_kept",
    ),
    "L10 bad TLS": (
        "delivery/test_courier.py::test_bad_certificates_are_tolerated",
        "delivery/test_courier.py::test_clear_only_if_tls_cannot_be_had",
        "delivery/test_courier.py::test_names_of_certificates",
    ),
    "L10 MTA-STS": (
        "delivery/test_policies.py::test_enforced_and_not_met",
        "delivery/test_policies.py::test_testing_only_notes",
        "delivery/test_policies.py::test_refresh_and_expiry",
    ),
    "L11 injection": ("delivery/test_courier.py::test_starttls_injection_is_discarded",),
    "L12 greylisting": ("delivery/test_cases.py::test_l12_greylisted_then_delivered",),
    "L12 expiry and delay": (
        "delivery/test_worker.py::test_expires_with_a_report",
        "delivery/test_reports.py::test_a_delay_is_reported_once",
    ),
    "L13 clock steps": (
        "delivery/test_cases.py::test_l13_a_clock_that_jumps_ahead_expires_nothing",
        "delivery/test_cases.py::test_l13_schedules_set_by_a_clock_ahead_come_back",
        "unit/delivery/test_step.py::test_a_late_message_gets_another_chance",
    ),
    "L13 suspended machine": ("delivery/test_cases.py::test_l13_a_hold_is_uncertain_after_a_pause",),
    "L14 reports": ("unit/delivery/test_dsn.py::test_structure", "unit/delivery/test_dsn.py::test_target"),
    "L15 NOTIFY, RET, ENVID": (
        "delivery/test_courier.py::test_dsn_parameters_are_passed_on",
        "delivery/test_reports.py::test_the_whole_mail_and_never",
    ),
    "L16 suppression": (
        "delivery/test_worker.py::test_hard_bounce_suppresses",
        "delivery/test_worker.py::test_other_failures_do_not_suppress",
        "unit/delivery/test_wording.py::test_replies",
    ),
    "L17 tarpits": ("delivery/test_fairness.py::test_flood_at_a_silent_destination",),
    "L18 a shared provider": ("delivery/test_cases.py::test_l18_domains_of_one_provider_pause_together",),
    "L19 a dead destination returns": ("delivery/test_cases.py::test_l19_a_dead_destination_comes_back",),
    "L20 too large": (
        "delivery/test_courier.py::test_size_is_known_before_data",
        "delivery/test_cases.py::test_l20_552_at_mail_sends_no_data",
    ),
}  # fmt: skip
INTERNAL = (
    "127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "fc00::1", "fd12::1", "fe80::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "224.0.0.1", "ff02::1",
    "255.255.255.255", "2002:7f00:1::1", "203.0.113.5",
)  # fmt: skip
_taps: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _taps:
        for heard in _taps:
            heard.append(str(arguments[1][0]))


sys.addaudithook(_hear)


@contextmanager
def tap() -> Iterator[list[str]]:
    """Collect the addresses of all connections that are tried in a block (look-ups in DNS need none)."""
    heard: list[str] = []
    _taps.append(heard)
    try:
        yield heard
    finally:
        _taps.remove(heard)


@pytest.mark.parametrize("case", SHOWN)
def test_every_case_is_shown(case: str) -> None:
    """Each test that the table names exists."""
    for shown in SHOWN[case]:
        path, _, name = shown.partition("::")
        tree = ast.parse((ROOT / "tests" / path).read_text())
        assert name in {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }


async def test_l01_a_late_reply_to_the_dot_is_waited_for(tmp_path: Path) -> None:
    """The final reply has a time of its own, far above that of commands: as set by default, ten minutes."""
    exchanger = Exchanger()
    exchanger.script["FINAL"] = [(4.0, OK)]
    settings = {"command_timeout_seconds": 3.0, "final_reply_timeout_seconds": 60.0}
    async with field(tmp_path, await exchanger.start(), **settings) as made:
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert DeliverySettings(master_key_file=tmp_path).final_reply_timeout_seconds >= 600  # RFC 5321 §4.5.3.2.6


def _heard(exchanger: Exchanger, verb: str) -> bool:
    return exchanger.uses(verb.encode()) != []


async def test_l02_killed_before_the_dot(world: World) -> None:
    """A worker dies with a message at each step before the dot: the next one delivers each of them, once."""
    steps = {"EHLO": "127.0.0.11", "MAIL": "127.0.0.12", "RCPT": "127.0.0.13", "DATA": "127.0.0.14"}
    exchangers = {verb: await Exchanger().start(address, world.exchanger.port) for verb, address in steps.items()}
    settings = world.settings()
    victim = await asyncio.to_thread(world.process, quiet=True, mta_sts="false")
    try:
        envelopes = []
        for verb, exchanger in exchangers.items():
            domain = f"{verb.lower()}.test"
            world.dns.set(domain, "MX", f"10 mx.{domain}.")
            world.dns.set(f"mx.{domain}", "A", steps[verb])
            exchanger.script[verb] = [(120.0, OK)]
            envelopes.append(await world.tenant.accept(f"a@{domain}"))
        for verb, exchanger in exchangers.items():
            await exchanger.until(partial(_heard, exchanger, verb), 60)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for exchanger in exchangers.values():
            exchanger.script.clear()
        async with delivering(world.server, settings):
            for envelope in envelopes:
                await world.watcher.until(envelope, "delivered", seconds=120)
            await world.watcher.until_empty(60)
        assert [len(exchanger.seen) for exchanger in exchangers.values()] == [1, 1, 1, 1]
    finally:
        victim.kill()
        victim.wait()
        for exchanger in exchangers.values():
            await exchanger.stop()


async def test_l03_three_answers(tmp_path: Path) -> None:
    """250, 450 and 550 in one transaction: each recipient has its own end, and the mail goes to the first alone."""
    exchanger = Exchanger()
    exchanger.by_recipient["b@rcpt.test"] = [(b"450 4.2.1 busy\r\n",)]
    exchanger.by_recipient["c@rcpt.test"] = [(b"550 5.1.1 nobody\r\n",)]
    async with field(tmp_path, await exchanger.start()) as made:
        attempted = await made.send("a@rcpt.test", "b@rcpt.test", "c@rcpt.test")
    assert [type(attempted.outcomes[n]) for n in (1, 2, 3)] == [Delivered, Deferred, Bounced]
    assert [message.recipients for message in exchanger.received] == [["a@rcpt.test"]]


@pytest.mark.parametrize("address", INTERNAL)
async def test_l06_no_packet_to_internal_addresses(address: str, tmp_path: Path) -> None:
    """Not one connection is tried to an address that is not public, or is ours."""
    settings = {"allowed_networks": (), "refused_networks": ("203.0.113.0/24",)}
    async with field(tmp_path, await Exchanger().start(), **settings) as made:
        made.dns.remove("mx.rcpt.test", "A")
        made.dns.set("mx.rcpt.test", "AAAA" if ":" in address else "A", address)
        with tap() as heard:
            result = only(await made.send("x@rcpt.test"))
    assert heard == []
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.4.4"


async def test_the_tap_hears(tmp_path: Path) -> None:
    """The control: a connection that is allowed is heard."""
    async with field(tmp_path, await Exchanger().start("127.0.0.9")) as made:
        made.dns.set("mx.rcpt.test", "A", "127.0.0.9")
        with tap() as heard:
            assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert "127.0.0.9" in heard


async def test_l07_connects_to_the_address_that_was_validated(tmp_path: Path) -> None:
    """A name that is harmless when it is looked up and internal ever after is reached where it was harmless."""
    exchanger = await Exchanger().start("127.0.0.9")
    async with field(tmp_path, exchanger, allowed_networks=("127.0.0.9/32",)) as made:
        made.dns.set("mx.rcpt.test", "A", "127.0.0.9")
        with tap() as heard:
            sending = asyncio.create_task(made.send("x@rcpt.test"))
            async with asyncio.timeout(60):
                while ("mx.rcpt.test", "A", "udp") not in [(n.rstrip("."), k, t) for n, k, t in made.dns.asked]:
                    await asyncio.sleep(0)  # each turn of the loop: the answer must change before the second question
            made.dns.set("mx.rcpt.test", "A", "127.0.0.66")
            assert isinstance(only(await sending), Delivered)
            made.courier.close()
            assert isinstance(only(await made.send("x@rcpt.test")), Bounced), "the second answer is refused"
    assert "127.0.0.66" not in heard
    assert exchanger.connections == 1


async def test_l07_an_alias_of_something_internal(tmp_path: Path) -> None:
    """A CNAME does not help an internal address."""
    async with field(tmp_path, await Exchanger().start(), allowed_networks=()) as made:
        made.dns.set("rcpt.test", "MX", "10 alias.rcpt.test.")
        made.dns.set("alias.rcpt.test", "CNAME", "inside.rcpt.test.")
        made.dns.set("inside.rcpt.test", "A", "10.0.0.7")
        with tap() as heard:
            assert isinstance(only(await made.send("x@rcpt.test")), Bounced)
    assert "10.0.0.7" not in heard


async def test_l07_caps(tmp_path: Path) -> None:
    """A hundred exchangers of a hundred addresses each cost one attempt no more than its caps."""
    exchanger = await Exchanger().start("127.0.0.9")
    async with field(tmp_path, exchanger) as made:
        made.dns.set("rcpt.test", "MX", *(f"10 mx{n}.rcpt.test." for n in range(100)))
        for number in range(100):
            made.dns.set(f"mx{number}.rcpt.test", "A", *(f"127.1.{number}.{n}" for n in range(1, 101)))
        with tap() as heard:
            assert isinstance(only(await made.send("x@rcpt.test")), Deferred)
    tried = [address for address in heard if address.startswith("127.1.")]
    hosts = {address.split(".")[2] for address in tried}
    assert 0 < len(tried) <= TRIES_LIMIT
    assert len(hosts) <= EXCHANGERS_LIMIT
    assert all(len({a for a in tried if a.split(".")[2] == host}) <= ADDRESSES_LIMIT for host in hosts)


async def test_l08_null_mx_without_a_packet(tmp_path: Path) -> None:
    """A domain that takes no mail bounces at once, and its address is not contacted."""
    async with field(tmp_path, await Exchanger().start("127.0.0.9")) as made:
        made.dns.set("rcpt.test", "MX", "0 .")
        made.dns.set("rcpt.test", "A", "127.0.0.9")
        with tap() as heard:
            result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.1.10"
    assert "127.0.0.9" not in heard


async def test_l12_greylisted_then_delivered(world: World) -> None:
    """A first 450 is no failure: the message is delivered at its second attempt, and nobody is reported to."""
    world.exchanger.script["RCPT"] = [(b"450 4.7.1 greylisted, come back\r\n",), (OK,)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test")
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()
    assert [event.status for event in await world.watcher.history(envelope)] == ["deferred", "delivered"]
    assert len(world.exchanger.seen) == 1


async def test_l18_domains_of_one_provider_pause_together(tmp_path: Path) -> None:
    """Two domains with the same exchanger are one destination: what one learns, the other need not try."""
    provider = Exchanger()
    provider.script["GREETING"] = [(None,)]
    async with field(tmp_path, await provider.start(), breaker_failures=3, breaker_pause_seconds=60.0) as made:
        made.dns.set("other.test", "MX", "10 mx.rcpt.test.")
        for _ in range(3):
            await made.send("x@rcpt.test")
        result = only(await made.send("x@other.test"))
    assert isinstance(result, Deferred)
    assert provider.connections == 3


async def test_l19_a_dead_destination_comes_back(world: World) -> None:
    """Mail queued for a destination that was dead arrives when it lives again, all of it, each once."""
    world.exchanger.script["GREETING"] = [(None,)]
    settings = world.settings(breaker_failures=3, breaker_pause_seconds=0.5, breaker_longest_pause_seconds=1.0)
    async with delivering(world.server, settings):
        envelopes = [await world.tenant.accept(f"r{n}@rcpt.test") for n in range(40)]
        for envelope in envelopes:
            await world.watcher.until(envelope, "deferred", seconds=60)
        world.exchanger.script.clear()
        for envelope in envelopes:
            await world.watcher.until(envelope, "delivered", seconds=120)
        await world.watcher.until_empty(60)
    arrived = sorted(recipient for message in world.exchanger.seen for recipient in message.recipients)
    assert arrived == sorted(f"r{n}@rcpt.test" for n in range(40))


async def test_l20_552_at_mail_sends_no_data(tmp_path: Path) -> None:
    """A refusal of the size at MAIL is final, and no octet of the message leaves."""
    exchanger = Exchanger(extensions=("SIZE",))
    exchanger.script["MAIL"] = [(b"552 5.3.4 too large\r\n",)]
    async with field(tmp_path, await exchanger.start()) as made:
        result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, Bounced)
    assert result.diagnosis.enhanced == "5.3.4"
    assert exchanger.uses(b"DATA") == []
    assert exchanger.seen == []


async def test_l13_a_clock_that_jumps_ahead_expires_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year passes between two attempts by the clock alone: every message is tried again, once."""
    count = 10
    for number in range(count):
        world.exchanger.by_recipient[f"r{number}@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (OK,)]
    real = clock.now
    settings = world.settings(retry_waits_seconds=(10.0,), sweep_seconds=3600.0)
    async with delivering(world.server, settings):
        envelopes = [await world.tenant.accept(f"r{number}@rcpt.test") for number in range(count)]
        for envelope in envelopes:
            await world.watcher.until(envelope, "deferred")
        monkeypatch.setattr(clock, "now", lambda: real() + timedelta(days=366))
        ends = [await world.watcher.until(envelope, "delivered", seconds=60) for envelope in envelopes]
        await world.watcher.until_empty()
    assert len(world.exchanger.received) == count
    assert any(event.at - real() > timedelta(days=300) for event in ends)


async def test_l13_schedules_set_by_a_clock_ahead_come_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deferral while the clock was a year ahead waits for a year; the search finds it when the clock is right."""
    world.exchanger.by_recipient["a@rcpt.test"] = [(b"450 4.2.1 later\r\n",), (OK,)]
    real = clock.now
    async with delivering(world.server, world.settings(sweep_seconds=0.2)):
        monkeypatch.setattr(clock, "now", lambda: real() + timedelta(days=366))
        envelope = await world.tenant.accept("a@rcpt.test")
        event = await world.watcher.until(envelope, "deferred")
        assert isinstance(event, MessageAttempted)
        assert event.next_attempt_at is not None
        assert event.next_attempt_at - real() > timedelta(days=300)
        monkeypatch.setattr(clock, "now", real)
        await world.watcher.until(envelope, "delivered")
        await world.watcher.until_empty()


async def test_l13_a_hold_is_uncertain_after_a_pause(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept two hours at the final dot does not send it: somebody else may have the message by now."""
    real = clock.now_ms
    jumped = asyncio.Event()

    def ahead() -> int:
        return real() + (2 * 3_600_000 if jumped.is_set() else 0)

    async def sleep_at_data() -> None:
        await world.exchanger.until(lambda: b"DATA" in world.exchanger.commands)
        jumped.set()

    monkeypatch.setattr(clock, "now_ms", ahead)
    world.exchanger.script["DATA"] = [(0.5, b"354 go\r\n"), (b"354 go\r\n",)]
    async with delivering(world.server, world.settings()):
        envelope = await world.tenant.accept("a@rcpt.test")
        await sleep_at_data()
        event = await world.watcher.until(envelope, "delivered", seconds=60)
        await world.watcher.until_empty()
    assert len(world.exchanger.seen) == 1
    assert world.exchanger.commands.count(b"DATA") == 2  # the first try was cut before its dot
    assert not event.recipients[0].possible_duplicate
