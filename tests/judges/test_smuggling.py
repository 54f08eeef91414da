"""Nobody smuggles a second message, whatever end of data is tried (P07) and however it is split.

Two ways: a client through us into Postfix, and a client through Postfix, our smart-host client, into us.
"""

import re
import smtplib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.judges import smart_hosts
from tests.judges.receivers import Receiver
from tests.judges.smart_hosts import SmartHost, Upstream
from tests.judges.test_receivers import running
from tests.system import System, eventually

pytestmark = pytest.mark.judge

TRUE_END = b"\r\n.\r\n"
BREAKS = (b"\r\n", b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r", b"\0\r\n")
ODD = (b"\r\n.\0\r\n", b"\r\n..\r\n", b"\n\n.\n\n", b"\r\n. \r\n", b"\r\n.\t\r\n")
PAIRS = [before + b"." + after for before in BREAKS for after in BREAKS]
ENDS = sorted({end for end in (*PAIRS, *ODD) if TRUE_END not in end})
"""What is none, since it holds no CRLF.CRLF; RFC 5321 §4.1.1.4 knows no other end."""
FIRST = sorted({b"." + after for after in BREAKS if not after.startswith(b"\r\n")})
"""The same at the start of a body: the header's empty line is in front of the dot."""
SECONDS = 120.0


@pytest.fixture(scope="module")
def receiver(system: System) -> Iterator[Receiver]:
    """Run Postfix where our mail goes."""
    yield from running(system, "postfix")


@pytest.fixture(scope="module")
def relay(system: System) -> Iterator[SmartHost]:
    """Run Postfix in front of us."""
    tenant = system.tenant
    host = smart_hosts.postfix(
        Upstream(system.ready["smtp"]["port"], system.ready["ca_file"], tenant["username"], tenant["password"])
    )
    yield host
    host.stop()


def hidden(domain: str, to: str) -> bytes:
    """Return the commands and the message that are to be smuggled; whoever takes them for such would accept them."""
    envelope = f"MAIL FROM:<app@{domain}>\r\nRCPT TO:<{to}>\r\nDATA\r\n"
    return f"{envelope}From: app@{domain}\r\nTo: {to}\r\nSubject: smuggled\r\n\r\nx".encode()


def replies(sock: socket.socket) -> list[int]:
    """Read replies until the server closes; return their codes."""
    sock.settimeout(20)
    heard = b""
    while octets := sock.recv(65536):
        heard += octets
    return [int(code) for code in re.findall(rb"^(\d{3}) ", heard, re.MULTILINE)]


def into_us(system: System, body: bytes, end: bytes, split: int) -> list[int]:
    """Submit a message with something like an end of data in it, cut after `split` octets; return the codes."""
    domain, session = system.tenant["domain"], system.login()
    session.mail(f"app@{domain}")
    session.rcpt("everybody@postfix.example")
    assert session.docmd("DATA")[0] == 354
    sock = session.sock
    assert isinstance(sock, ssl.SSLSocket)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(f"From: app@{domain}\r\nSubject: carrier\r\n\r\n".encode() + body + end[:split])
    sock.sendall(end[split:] + hidden(domain, "smuggled@postfix.example") + TRUE_END + b"QUIT\r\n")
    try:
        return replies(sock)
    finally:
        session.close()


@pytest.mark.parametrize("end", [*ENDS, *FIRST], ids=repr)
def test_through_us_into_postfix(system: System, receiver: Receiver, end: bytes) -> None:
    """One reply to all of it and then the one to QUIT: refused, or one message, in which all of it arrives."""
    before, accepted = len(receiver.kept()), 0
    body = b"" if end.startswith(b".") else b"before"
    for split in range(1, len(end) + 1):
        answer, *more = into_us(system, body, end, split)
        assert more == [221]
        assert answer in (250, 550, 554)
        accepted += answer == 250
    eventually("what was accepted arrives", lambda: len(receiver.kept()) >= before + accepted, SECONDS)
    assert len(receiver.kept()) == before + accepted
    assert not any(b"for <smuggled@" in mail or b"Delivered-To: smuggled@" in mail for mail in receiver.kept())


def test_a_true_end_is_seen(system: System, receiver: Receiver) -> None:
    """The control: after CRLF.CRLF the same commands are obeyed, and one who waits for 354 has a second message."""
    before = len(receiver.kept())
    assert into_us(system, b"before", TRUE_END, 3)[:3] == [250, 250, 250]
    domain, session = system.tenant["domain"], system.login()
    session.sendmail(f"app@{domain}", ["everybody@postfix.example"], f"From: app@{domain}\r\n\r\nfirst\r\n")
    session.sendmail(f"app@{domain}", ["smuggled@postfix.example"], f"From: app@{domain}\r\n\r\nsecond\r\n")
    session.quit()
    eventually("three arrive", lambda: len(receiver.kept()) == before + 3, SECONDS)
    hit = [mail for mail in receiver.kept() if b"Delivered-To: smuggled@" in mail]
    assert len(hit) == 1


def into_postfix(system: System, relay: SmartHost, body: bytes, end: bytes, split: int) -> None:
    """Give Postfix the same, with a marker in the carrier."""
    domain = system.tenant["domain"]
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as session:
        session.ehlo()
        session.mail(f"app@{domain}")
        session.rcpt("delivered@inbox.example")
        assert session.docmd("DATA")[0] == 354
        sock = session.sock
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(f"From: app@{domain}\r\nSubject: carrier\r\n\r\n".encode() + body + end[:split])
        sock.sendall(end[split:] + hidden(domain, "smuggled@inbox.example") + TRUE_END + b"QUIT\r\n")
        replies(sock)
        session.close()


def carried(relay: SmartHost) -> tuple[set[str], set[str], list[str]]:
    """Return Postfix's names of messages it took, of those it is done with, and our queue IDs in its log."""
    log = relay.log()
    taken = set(re.findall(r"/qmgr\[\d+\]: (\w+): from=<app@", log))
    done = set(re.findall(r"/qmgr\[\d+\]: (\w+): removed", log))
    return taken, done, re.findall(r"relay=localhost\S*, .*status=sent \(250 2\.0\.0 Ok: queued as (\w+)\)", log)


def test_through_postfix_into_us(system: System, relay: SmartHost) -> None:
    """What Postfix takes for one message is at most one to us: each of ours is one that it says it has sent."""
    for end in [*ENDS, *FIRST]:
        for split in range(1, len(end) + 1):
            into_postfix(system, relay, b"" if end.startswith(b".") else b"before", end, split)
    into_postfix(system, relay, b"before", TRUE_END, 3)  # the control: it passes such things on
    taken = carried(relay)[0]
    assert len(taken) > len(ENDS)

    def finished() -> bool:
        now, done, _ = carried(relay)
        return now <= done

    eventually("Postfix is done with all of it", finished, SECONDS)
    taken, _, ours = carried(relay)
    assert 0 < len(ours) <= len(taken)
    assert len(set(ours)) == len(ours)
    marks = (b"Subject: carrier", b"Subject: smuggled")
    wanted = len(ours)

    def here() -> int:
        return sum(any(mark in mail.split(b"\r\n\r\n", 1)[0] for mark in marks) for mail in system.arrived())

    eventually("each arrives", lambda: here() >= wanted, SECONDS)
    assert here() == wanted, "a message arrived that Postfix has not sent"
