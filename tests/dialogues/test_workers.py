"""Several worker processes on one port: all take mail, a dead one is replaced, all are drained."""

import json
import os
import signal
import smtplib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, accepted, begin, bus, connect, running, stored
from tests.ingress_process import IngressProcess

__all__ = ["bus"]

SESSIONS = 40
"""Enough that the kernel gives some to each of two workers; all to one has a chance of 2 in 10^12."""


def test_two_workers(bus: BusServer, tmp_path: Path) -> None:
    """Both take sessions of one port; readiness and metrics tell of each; told to stop, both let go in good order."""
    with running(bus, tmp_path, processes="2", drain_seconds="30") as ingress:
        both_ready(ingress)
        clients = [connect(ingress) for _ in range(SESSIONS)]
        for client in clients:
            begin(client)
            assert client.data(MAIL)[0] == 250
        _until(lambda: sum(_sessions(ingress).values()) == SESSIONS)
        assert set(_sessions(ingress)) == {"1", "2"}
        busy, *idle = clients
        begin(busy)
        busy.putcmd("data")
        assert busy.getreply()[0] == 354
        assert ingress.process is not None
        ingress.process.terminate()
        for client in idle:
            assert client.getreply()[0] == 421
        busy.send(MAIL + "text\r\n.\r\n")
        assert busy.getreply()[0] == 250
        assert ingress.process.wait(WAIT_SECONDS) == 0, ingress.log.read_text()
    assert len(stored(bus)) == SESSIONS + 1
    assert len(accepted(bus, SESSIONS + 1)) == SESSIONS + 1


def test_a_dead_worker_is_replaced(bus: BusServer, tmp_path: Path) -> None:
    """Killed, it is started again; meanwhile the other one takes mail, and the host stays ready."""
    with running(bus, tmp_path, processes="2") as ingress:
        both_ready(ingress)
        killed = workers(ingress)[0]
        os.kill(killed, signal.SIGKILL)
        _until(lambda: killed not in workers(ingress))
        assert ingress.health("/readyz") == 200
        with _patiently(ingress) as client:
            begin(client)
            assert client.data(MAIL)[0] == 250
        _until(lambda: ingress.figure("postlane_ingress_worker_restarts_total") == 1)
        both_ready(ingress)
        assert killed not in workers(ingress)
        alive = workers(ingress)
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in alive))


def test_workers_that_cannot_start(bus: BusServer, tmp_path: Path) -> None:
    """A fault of the settings ends the whole with status 1 instead of starting for ever."""
    ingress = IngressProcess(bus, tmp_path, processes="2")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ingress.ports["public"]))
        taken.listen()
        with pytest.raises(AssertionError, match="could not start"):
            ingress.start()
        assert ingress.process is not None
        assert ingress.process.wait(WAIT_SECONDS) == 1
    assert "POSTLANE_INGRESS_PUBLIC_LISTEN" in ingress.log.read_text()


def _page(ingress: IngressProcess, path: str) -> str:
    with socket.create_connection(("127.0.0.1", ingress.ports["health"]), WAIT_SECONDS) as asking:
        asking.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return asking.makefile("rb").read().decode().partition("\r\n\r\n")[2]


def both_ready(ingress: IngressProcess) -> None:
    """Wait until both workers take mail."""

    def ready() -> bool:
        page: dict[str, Any] = json.loads(_page(ingress, "/readyz"))
        return page["worker 1"] == page["worker 2"] == "ready" and page["ready"] is True

    _until(ready)


def _sessions(ingress: IngressProcess) -> dict[str, float]:
    """Return the open sessions of each worker that has any."""
    start = 'postlane_ingress_sessions{worker="'
    lines = [line for line in _page(ingress, "/metrics").splitlines() if line.startswith(start)]
    counts = {line.removeprefix(start).partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    return {worker: count for worker, count in counts.items() if count}


def workers(ingress: IngressProcess) -> list[int]:
    """Return the processes that take mail."""
    assert ingress.process is not None
    pid = ingress.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _patiently(ingress: IngressProcess) -> smtplib.SMTP:
    """Connect; a connection that waited at the dead worker's socket is reset, and tried again as clients do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return connect(ingress)
        except (OSError, smtplib.SMTPServerDisconnected):
            assert time.monotonic() < deadline


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
