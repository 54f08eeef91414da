"""Processor time of ingress per message and per session, its memory, and how it serves while passwords are verified.

Run: `python -m benchmarks.ingress [CASE …] [--runs 5] [--postfix]`. Starts a nats-server and an ingress process on
loopback, sends the load from this process, and reads the time the ingress process used (user and system, threads
included), so that other work on the machine disturbs little. `--postfix` gives the same load to a Postfix of its own,
in pairs: one run here, one run there. Prints a table.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import argon2

from benchmarks.ingress_crowd import answer_times
from benchmarks.postfix_peer import PostfixPeer
from benchmarks.smtp_load import Server, Session, at_once, cpu_seconds, machine, message, resident_bytes, yardstick
from shared.bus.settings import Topology
from shared.contract.records import Configuration
from tests.bus_server import BusServer, started
from tests.ingress_process import IngressProcess, Tenants, password_of, seeded

CLIENTS = 10
USER = "load"
OWASP = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""What a verified password costs in service, unlike those of tests."""
MICRO = 1_000_000


class Case(NamedTuple):
    """A load: `act` is what each of `CLIENTS` threads does; it returns the units (messages or sessions) it did."""

    unit: str
    goal_micros: int | None
    act: Callable[[Server], int]
    postfix: bool = True


def _reused(octets: int, count: int, *, pipelined: bool) -> Callable[[Server], int]:
    mail = message(octets)

    def act(server: Server) -> int:
        session = Session(server, tls=bool(server.tls_port))
        for _ in range(count):
            session.send(mail, pipelined=pipelined)
        session.close()
        return count

    return act


def _sessions(count: int, *, tls: bool = False, starttls: bool = False, send: bool = True) -> Callable[[Server], int]:
    mail = message(1024)

    def act(server: Server) -> int:
        for _ in range(count):
            session = Session(server, tls=tls, starttls=starttls)
            if send:
                session.send(mail, pipelined=True)
            session.close()
        return count

    return act


CASES = {
    "reused": Case("1 KB message, reused TLS session, pipelined", 350, _reused(1024, 200, pipelined=True)),
    "reused-steps": Case("1 KB message, reused TLS session, step by step", None, _reused(1024, 150, pipelined=False)),
    "100k": Case("100 kB message, reused TLS session", 1000, _reused(100_000, 40, pipelined=True)),
    "plain-session": Case("session in clear, EHLO and QUIT, no message", None, _sessions(60, send=False)),
    "tls-session": Case("implicit TLS + AUTH session", None, _sessions(40, tls=True, send=False)),
    "starttls-session": Case("STARTTLS + AUTH session", 3500, _sessions(40, starttls=True, send=False)),
    "starttls-message": Case("STARTTLS + AUTH session with a 1 KB message", None, _sessions(40, starttls=True)),
}


async def _fill(bus: BusServer) -> None:
    await seeded(bus)
    control, verifier = await asyncio.gather(bus.connect("control"), bus.connect("verifier"))
    tenants = Tenants(control, verifier)
    shop = await tenants.directory.get("configuration.shop")
    if shop is not None and isinstance(shop.record, Configuration):
        await tenants.user(shop.record, USER, OWASP.hash(password_of(USER)))
    await control.close()
    await verifier.close()


@contextmanager
def _ingress(directory: Path) -> Iterator[IngressProcess]:
    bus = started(directory, Topology(mail_bytes=500_000_000))
    try:
        asyncio.run(_fill(bus))
        ingress = IngressProcess(
            bus, directory, strangers_per_address="20000", failed_login_seconds="0.5", logins_per_key="500",
            failed_logins="10", handshake_seconds="900", login_seconds="900", command_seconds="900",
        )  # fmt: skip
        ingress.start()
        try:
            yield ingress
        finally:
            ingress.stop()
    finally:
        bus.stop()


def _run(case: Case, server: Server, pids: Callable[[], list[int]]) -> tuple[float, float]:
    """Return processor microseconds and wall seconds per unit."""
    done = [0] * CLIENTS

    def client(number: int) -> None:
        done[number] = case.act(server)

    before, began = cpu_seconds(*pids()), time.monotonic()
    at_once(CLIENTS, client)
    seconds = time.monotonic() - began
    time.sleep(0.3)  # what is owed after the answer belongs to the message too: events, log, counters
    return (cpu_seconds(*pids()) - before) / sum(done) * MICRO, seconds / sum(done)


def _spread(figures: list[float]) -> str:
    return f"{min(figures):.0f} / {statistics.median(figures):.0f} / {max(figures):.0f}"


def measure(names: list[str], runs: int, peer: bool) -> None:
    """Run cases and print a row for each."""
    with tempfile.TemporaryDirectory() as place, _ingress(Path(place)) as ingress:
        assert ingress.process is not None
        own = ingress.process.pid
        ours = Server(ingress.ports["public"], ingress.ports["tls"], USER)
        _run(Case("", None, _reused(1024, 20, pipelined=True)), ours, lambda: [own])  # caches are filled
        postfix = PostfixPeer(ingress.certificate, ingress.key) if peer else None
        try:
            for name in names:
                case = CASES[name]
                mine: list[float] = []
                theirs: list[float] = []
                rates: list[float] = []
                yardsticks: list[float] = []
                for _ in range(runs):
                    yardsticks.append(yardstick())
                    micros, wall = _run(case, ours, lambda: [own])
                    mine.append(micros)
                    if postfix is not None:
                        other_micros, other_wall = _run(case, postfix.server, postfix.pids)
                        theirs.append(other_micros)
                        rates.append(other_wall / wall)
                row = f"{case.unit}: µs CPU min/median/max {_spread(mine)}"
                row += f", goal {case.goal_micros}" if case.goal_micros else ""
                if postfix is not None:
                    row += f"; Postfix {_spread(theirs)}; rate ours/Postfix {statistics.median(rates):.2f}"
                print(f"{row}; yardstick {statistics.median(yardsticks):.1f} µs", flush=True)
        finally:
            if postfix is not None:
                postfix.stop()


def idle(count: int) -> None:
    """Hold idle sessions that are logged in over TLS and print what they cost."""
    with tempfile.TemporaryDirectory() as place, _ingress(Path(place)) as ingress:
        assert ingress.process is not None
        server = Server(ingress.ports["public"], ingress.ports["tls"], USER)
        Session(server, tls=True).close()
        before = resident_bytes(ingress.process.pid)
        held: list[Session] = []
        at_once(CLIENTS, lambda number: held.extend(Session(server, tls=True) for _ in range(count // CLIENTS)))
        grown = resident_bytes(ingress.process.pid) - before
        print(
            f"{len(held)} idle TLS sessions, logged in: {grown / len(held):.0f} octets each, "
            f"{resident_bytes(ingress.process.pid) / 1e6:.0f} MB in all",
            flush=True,
        )
        for session in held:
            session.close(politely=False)


def strangers(runs: int, guesses: int, crowd: int) -> None:
    """Compare the waits of an established session: alone, while passwords are guessed, and in a slow crowd."""
    with tempfile.TemporaryDirectory() as place, _ingress(Path(place)) as ingress:
        for row in answer_times(ingress, USER, runs, guesses, crowd):
            print(row, flush=True)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    extras = ["idle", "strangers"]
    parser.add_argument("case", nargs="*", help=f"of {', '.join([*CASES, *extras])}; default: all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--postfix", action="store_true", help="in pairs with Postfix, from its Debian package")
    parser.add_argument("--sessions", type=int, default=10_000, help="idle sessions")
    parser.add_argument("--guesses", type=int, default=200, help="wrong passwords at once")
    parser.add_argument("--crowd", type=int, default=5_000, help="half-open and slow connections")
    chosen = parser.parse_args()
    names = chosen.case or [*CASES, *extras]
    print(machine(), flush=True)
    loads = [name for name in names if name in CASES]
    if loads:
        measure(loads, chosen.runs, chosen.postfix)
    if "strangers" in names:
        strangers(chosen.runs, chosen.guesses, chosen.crowd)
    if "idle" in names:
        idle(chosen.sessions)


if __name__ == "__main__":
    main()
