"""The disk under the embedded nats-server fails for a while: `up` starts the server again (B06)."""

import resource
import smtplib
from pathlib import Path

from tests.system import System, eventually

FOR_EVER = resource.RLIM_INFINITY


def test_a_server_that_stores_nothing_any_more_is_started_again(tmp_path: Path) -> None:
    """Clients are told 451 meanwhile; then mail is taken by itself, and what was taken before has arrived."""
    system = System(tmp_path / "system", POSTLANE_INGRESS_STORE_SECONDS="2", POSTLANE_INGRESS_STORE_ATTEMPT_SECONDS="1")
    system.start()
    try:
        system.send("delivered@inbox.example", "before")
        failed = system.pid("nats-server")
        resource.prlimit(failed, resource.RLIMIT_FSIZE, (1, FOR_EVER))  # lasts as long as this process
        with system.login() as session:
            code, text = system.submit(session, "delivered@inbox.example", "meanwhile")
        assert (code, text[:5]) == (451, "4.3.0")
        eventually("up says so", lambda: "restarting nats-server: mail stream" in system.output.read_text())
        eventually("it runs again", lambda: system.pid("nats-server") != failed)
        eventually("mail is taken", lambda: taken(system, "after"))
        eventually("it arrives", lambda: {b"before", b"after"} <= {_subject(mail) for mail in system.arrived()})
    finally:
        assert system.stop() == 0


def taken(system: System, marker: str) -> bool:
    """Whether a message is taken now; each try has a session of its own, for one may be closed after a refusal."""
    try:
        with system.login() as session:
            return system.submit(session, "delivered@inbox.example", marker)[0] == 250
    except smtplib.SMTPException:
        return False


def _subject(mail: bytes) -> bytes:
    return mail.partition(b"\nSubject: ")[2].partition(b"\n")[0].strip()
