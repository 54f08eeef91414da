"""Signals at bad moments: told to stop while there is no bus yet; SIGHUP, from a renewal's hook, amid a transaction."""

import asyncio
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, WAIT_SECONDS, _until, begin, bus, connect, running, stored
from tests.dialogues.test_workers import both_ready, workers
from tests.ingress_process import IngressProcess, certificate, client_context

__all__ = ["bus"]

CONNECTIONS = 40
"""Enough that each of two workers has some."""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_told_to_stop_before_the_bus_is_there(bus: BusServer, tmp_path: Path, processes: str) -> None:
    """It has nothing to finish and ends at once, in good order, instead of waiting for the bus until it is killed."""
    bus.stop()
    ingress = IngressProcess(bus, tmp_path, processes=processes)
    with pytest.raises(AssertionError, match="did not become ready"):
        ingress.start(seconds=0.1)
    try:
        _until(lambda: ingress.log.read_text().count("waiting for the bus") == int(processes))
        assert ingress.stop() == 0, ingress.log.read_text()
    finally:
        ingress.kill()
    assert ingress.log.read_text().count("stopped in good order") == (1 if processes == "1" else 3)


def test_told_to_stop_before_the_directory_is_read(bus: BusServer, tmp_path: Path) -> None:
    """A bus that is there but has nothing to read is no reason to stay either."""

    async def lose() -> None:
        administrator = await bus.connect("provision")
        assert (await administrator.api("STREAM.DELETE.KV_directory"))["success"]
        await administrator.close()

    asyncio.run(lose())
    ingress = IngressProcess(bus, tmp_path)
    with pytest.raises(AssertionError, match="did not become ready"):
        ingress.start(seconds=0.1)
    try:
        _until(lambda: "bucket directory cannot be read yet" in ingress.log.read_text())
        assert ingress.stop() == 0, ingress.log.read_text()
    finally:
        ingress.kill()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_hangup_takes_up_the_certificate_and_cuts_nobody_off(bus: BusServer, tmp_path: Path, processes: str) -> None:
    """Whoever is in DATA ends it as if nothing had been; the next handshake shows the new certificate."""
    with running(bus, tmp_path, processes=processes, tls_reload_seconds="3600") as ingress:
        if processes == "2":
            both_ready(ingress)
        before = _certificate_of(ingress)
        client = connect(ingress)
        begin(client)
        client.putcmd("data")
        assert client.getreply()[0] == 354
        certificate(tmp_path)
        assert ingress.process is not None
        ingress.process.send_signal(signal.SIGHUP)
        _until(lambda: ingress.log.read_text().count("a new TLS certificate is in use") == int(processes))
        assert _certificate_of(ingress) != before
        client.send(MAIL + "text\r\n.\r\n")
        assert client.getreply()[0] == 250
        client.quit()
    assert len(stored(bus)) == 1


def test_a_worker_that_is_starting_survives_a_hangup(bus: BusServer, tmp_path: Path) -> None:
    """It would not know the signal yet, and die of it; it gets it once it answers, and shows the new certificate."""
    with running(bus, tmp_path, processes="2", tls_reload_seconds="3600") as ingress:
        both_ready(ingress)
        certificate_file, _ = certificate(tmp_path)
        killed = workers(ingress)[0]
        os.kill(killed, signal.SIGKILL)
        _until(lambda: len(set(workers(ingress)) - {killed}) == 2)
        assert ingress.process is not None
        ingress.process.send_signal(signal.SIGHUP)
        _until(lambda: "a new TLS certificate is in use" in ingress.log.read_text())  # by the one that lives
        both_ready(ingress)
        assert ingress.figure("postlane_ingress_worker_restarts_total") == 1
        new = ssl.PEM_cert_to_DER_cert(certificate_file.read_text())
        assert {_certificate_of(ingress) for _ in range(CONNECTIONS)} == {new}


def _certificate_of(ingress: IngressProcess) -> bytes | None:
    with (
        socket.create_connection(("127.0.0.1", ingress.ports["tls"]), WAIT_SECONDS) as sock,
        client_context().wrap_socket(sock) as tls,
    ):
        return tls.getpeercert(binary_form=True)
