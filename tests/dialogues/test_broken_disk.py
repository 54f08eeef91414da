"""A disk that takes no more octets under a running bus, and a process told to stop while it waits for the bus."""

import resource
import threading
from pathlib import Path

from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, _until, begin, bus, connect, running, stored
from tests.dialogues.test_server import _withdrawn as withdrawn
from tests.ingress_process import IngressProcess

__all__ = ["bus"]  # a fixture

FOR_EVER = resource.RLIM_INFINITY


def test_a_disk_that_takes_no_more(bus: BusServer, tmp_path: Path) -> None:
    """B06, B07: what cannot be written is never answered 250; after a restart of the bus mail is stored again.

    Meanwhile ingress says that it is not ready, although it is connected.
    """
    settings = {"store_seconds": "1", "store_attempt_seconds": "0.4"}
    with running(bus, tmp_path, **settings) as ingress, connect(ingress) as client:
        begin(client)
        assert client.data(MAIL + "before\r\n")[0] == 250
        resource.prlimit(bus.pid, resource.RLIMIT_FSIZE, (1, FOR_EVER))
        for _ in range(2):
            begin(client)
            assert client.data(MAIL + "not written\r\n")[0] == 451
        _until(lambda: ingress.health("/readyz") != 200)
        assert "restart nats-server" in ingress.log.read_text()
        resource.prlimit(bus.pid, resource.RLIMIT_FSIZE, (FOR_EVER, FOR_EVER))
        bus.kill()
        bus.start()
        _until(lambda: ingress.health("/readyz") == 200)
        begin(client)
        assert client.data(MAIL + "after\r\n")[0] == 250
    mails = [mail for _, mail in stored(bus)]
    assert sum(b"before" in mail for mail in mails) == 1
    assert sum(b"after" in mail for mail in mails) == 1


def test_told_to_stop_while_it_waits_for_the_bus(bus: BusServer, tmp_path: Path) -> None:
    """U01: a message whose PubAck is on its way gets its 250 before the session is closed."""
    ingress = IngressProcess(bus, tmp_path, drain_seconds="30")
    ingress.start()
    client = connect(ingress)
    begin(client)
    bus.pause()
    try:
        answers: list[tuple[int, bytes]] = []
        sending = threading.Thread(target=lambda: answers.append(client.data(MAIL + "text\r\n")))
        sending.start()
        _until(lambda: "storing again" in ingress.log.read_text())  # it waits for the bus
        assert ingress.process is not None
        ingress.process.terminate()
        _until(lambda: ingress.health("/readyz") != 200)
    finally:
        bus.resume()
    sending.join(WAIT_SECONDS)
    assert [code for code, _ in answers] == [250]
    assert ingress.process.wait(WAIT_SECONDS) == 0, ingress.log.read_text()
    assert len(stored(bus)) == 1
    client.close()


def test_no_time_left_to_wait_for_the_bus(bus: BusServer, tmp_path: Path) -> None:
    """U01: when the time for draining is over, it is told 451, and what may lie on the bus is withdrawn."""
    ingress = IngressProcess(bus, tmp_path, drain_seconds="1")
    ingress.start()
    client = connect(ingress)
    begin(client)
    bus.pause()
    try:
        answers: list[tuple[int, bytes]] = []
        sending = threading.Thread(target=lambda: answers.append(client.data(MAIL + "text\r\n")))
        sending.start()
        _until(lambda: "storing again" in ingress.log.read_text())  # so the first try lies before the bus
        assert ingress.process is not None
        ingress.process.terminate()
        sending.join(WAIT_SECONDS)
        assert [(code, text[:5]) for code, text in answers] == [(451, b"4.3.0")]
        assert ingress.process.wait(2 * WAIT_SECONDS) == 0
    finally:
        bus.resume()
    _until(lambda: len(stored(bus)) == 1)
    assert {envelope.queue_id for envelope, _ in stored(bus)} == withdrawn(bus)
