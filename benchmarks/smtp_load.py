"""The client load of the benchmarks: sessions over plain sockets and TLS, and the processor time of who serves them."""

import base64
import os
import platform
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.ingress_process import client_context, password_of

TIMEOUT_SECONDS = 300.0
LINE = b"The quick brown fox jumps over the lazy dog, and the mail goes on its way.\r\n"
HEADER = (
    b"From: Shop <a@shop.example>\r\nTo: b@client.example\r\nSubject: Your order 4711\r\n"
    b"Date: Mon, 23 Nov 2026 09:00:00 +0000\r\nMessage-ID: <4711@shop.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
)
CONTEXT = client_context()


class Server(NamedTuple):
    """Where a server listens; `user` "" means that it takes mail without a login."""

    port: int
    tls_port: int = 0
    user: str = ""


def message(octets: int) -> bytes:
    """Return a message of about so many octets."""
    return HEADER + LINE * max(1, (octets - len(HEADER)) // len(LINE))


class Session:
    """One SMTP session that says as little as it can. Closed by its owner."""

    def __init__(self, server: Server, *, tls: bool = False, starttls: bool = False) -> None:
        """Connect and be greeted; `tls` from the first octet, `starttls` after EHLO; then log in if there is a user."""
        sock: socket.socket = socket.create_connection(
            ("127.0.0.1", server.tls_port if tls else server.port), TIMEOUT_SECONDS
        )
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = CONTEXT.wrap_socket(sock) if tls else sock
        self._rest = b""
        self._expect("220")
        self.say("EHLO load.example", "250")
        if starttls:
            self.say("STARTTLS", "220")
            self._sock = CONTEXT.wrap_socket(self._sock)
            self.say("EHLO load.example", "250")
        if server.user and (tls or starttls):
            plain = f"\0{server.user}\0{password_of(server.user)}".encode()
            self.say(f"AUTH PLAIN {base64.b64encode(plain).decode()}", "235")

    def say(self, command: str, code: str) -> None:
        """Send one command and insist on its reply."""
        self._sock.sendall(f"{command}\r\n".encode())
        self._expect(code)

    def send(self, mail: bytes, *, pipelined: bool) -> None:
        """Send a message, its envelope in one write or command by command."""
        envelope = ("MAIL FROM:<a@shop.example>", "RCPT TO:<b@client.example>", "DATA")
        if pipelined:
            self._sock.sendall("".join(f"{command}\r\n" for command in envelope).encode())
            for code in ("250", "250", "354"):
                self._expect(code)
        else:
            for command, code in zip(envelope, ("250", "250", "354"), strict=True):
                self.say(command, code)
        self._sock.sendall(mail + b".\r\n")
        self._expect("250")

    def close(self, *, politely: bool = True) -> None:
        """Leave, with QUIT unless told otherwise."""
        if politely:
            self.say("QUIT", "221")
        self._sock.close()

    def _expect(self, code: str) -> None:
        while True:
            while b"\n" not in self._rest:
                received = self._sock.recv(65_536)
                if not received:
                    raise ConnectionError("the server has hung up")
                self._rest += received
            line, _, self._rest = self._rest.partition(b"\n")
            if line[3:4] != b"-":
                break
        if not line.startswith(code.encode()):
            raise RuntimeError(f"{code} was expected, and {line.decode()!r} came")


def at_once(clients: int, act: Callable[[int], None]) -> None:
    """Do something in so many threads; raises what the first of them raised."""
    faults: list[Exception] = []

    def live(number: int) -> None:
        try:
            act(number)
        except Exception as fault:  # noqa: BLE001 - told below, in the thread that waits
            faults.append(fault)

    threads = [threading.Thread(target=live, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def cpu_seconds(*pids: int) -> float:
    """Return user and system time of processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return a process and all its living descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid] + [each for child in children.read_text().split() for each in family(int(child))]


def resident_bytes(pid: int) -> int:
    """Return the memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def yardstick() -> float:
    """Return the processor microseconds of a fixed piece of Python work: others at work make all figures larger."""
    began = time.thread_time()
    for _ in range(200):
        sum(range(1000))
    return (time.thread_time() - began) / 200 * 1_000_000


def machine() -> str:
    """Describe the machine in a line."""
    names = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    what = f"{len(names)} x {names[0] if names else '?'}"
    return f"{what}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, load {load}"
