"""How long an established session waits for its answers: alone, while passwords are guessed, and in a slow crowd."""

import base64
import contextlib
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.smtp_load import CONTEXT, Server, Session, message
from tests.ingress_process import IngressProcess

MESSAGES = 200
DRIP_SECONDS = 5.0
"""How often each slow client of the crowd sends an octet."""


def answer_times(ingress: IngressProcess, user: str, runs: int, guesses: int, crowd: int) -> Iterator[str]:
    """Yield a row for each situation; p50 and p99 in milliseconds from MAIL to 250."""
    server = Server(ingress.ports["public"], ingress.ports["tls"], user)
    yield from _rows("alone", runs, lambda: _times(server))
    yield from _rows(f"{guesses} wrong passwords", runs, lambda: _during(server, guesses))
    with _crowd(server, crowd) as held:
        yield from _rows(f"{held} half-open and slow connections", runs, lambda: _times(server))


def _rows(what: str, runs: int, measure: Callable[[], list[float]]) -> list[str]:
    found = sorted(measure() for _ in range(runs))
    p50s = sorted(_percentile(times, 50) for times in found)
    p99s = sorted(_percentile(times, 99) for times in found)
    middle = len(found) // 2
    p50, p99 = (f"{each[0]:.1f} / {each[middle]:.1f} / {each[-1]:.1f}" for each in (p50s, p99s))
    return [f"{what}: 1 KB message to 250, ms min/median/max of {runs} runs: p50 {p50}, p99 {p99}"]


def _percentile(times: list[float], percent: int) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000


def _times(server: Server, enough: Callable[[], bool] = lambda: True) -> list[float]:
    """Send messages in one session, at an even pace; go on until `enough` says so."""
    session = Session(server, tls=True)
    mail = message(1024)
    times: list[float] = []
    while len(times) < MESSAGES or not enough():
        began = time.monotonic()
        session.send(mail, pipelined=True)
        times.append(time.monotonic() - began)
        time.sleep(0.005)
    session.close()
    return times


@contextlib.contextmanager
def _guesses(server: Server, count: int) -> Iterator[Callable[[], bool]]:
    """Have a process of its own guess: it is connected over TLS already, and sends all its passwords now.

    Gives what tells whether all were answered.
    """
    arguments = [sys.executable, "-m", __name__, str(server.tls_port), server.user, str(count)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as guesser:
        assert guesser.stdin is not None
        assert guesser.stdout is not None
        guesser.stdout.readline()  # all are connected
        guesser.stdin.write(b"\n")
        guesser.stdin.flush()
        yield lambda: guesser.poll() is not None
    if guesser.returncode:
        raise RuntimeError("the wrong passwords were not answered as such")


def _during(server: Server, count: int) -> list[float]:
    with _guesses(server, count) as answered:
        return _times(server, answered)


def _guess(port: int, user: str, count: int) -> int:
    """Try wrong passwords in sessions of their own, all waiting for their answers at once."""
    guess = base64.b64encode(f"\0{user}\0guess".encode()).decode()
    sessions = []
    for _ in range(count):
        sock = CONTEXT.wrap_socket(socket.create_connection(("127.0.0.1", port), 60))
        sock.recv(4096)
        sock.sendall(b"EHLO guess.example\r\n")
        sock.recv(4096)
        sessions.append(sock)
    print("connected", flush=True)
    sys.stdin.readline()
    for sock in sessions:
        sock.sendall(f"AUTH PLAIN {guess}\r\n".encode())
    answers = [sock.recv(4096)[:3] for sock in sessions]
    for sock in sessions:
        sock.close()
    return 1 if set(answers) - {b"535", b"454", b"421"} else 0


@contextlib.contextmanager
def _crowd(server: Server, count: int) -> Iterator[int]:
    """Hold connections: silent ones, ones that stop within the TLS handshake, ones that send an octet at a time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 1000)), hard))
    held: list[socket.socket] = []
    done = threading.Event()

    def drip() -> None:
        while not done.wait(DRIP_SECONDS):
            for sock in held[::3]:
                with contextlib.suppress(OSError):
                    sock.send(b"E")

    for number in range(count):
        port = server.tls_port if number % 3 == 1 else server.port
        held.append(socket.create_connection(("127.0.0.1", port), 60))
        if number % 3 == 1:
            held[-1].send(b"\x16\x03\x01\x02\x00")  # the first octets of a ClientHello
    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        yield len(held)
    finally:
        done.set()
        dripping.join()
        for sock in held:
            with contextlib.suppress(OSError, ssl.SSLError):
                sock.close()


if __name__ == "__main__":
    sys.exit(_guess(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
