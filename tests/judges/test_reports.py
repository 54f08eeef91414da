"""Reports made by delivery, judged by flufl.bounce, which lists read bounces with."""

import subprocess
from datetime import UTC, datetime

import msgspec
import pytest

from services.delivery.core import dsn
from services.delivery.core.dsn import Action
from shared.contract.envelope import Diagnosis, Envelope, Recipient, RecipientState
from shared.mail.ids import new_queue_id
from tests.judges.toolbox import PYTHON_PROGRAMS, python_program

pytestmark = pytest.mark.judge

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORIGINAL = b"From: a@d.example\r\nSubject: hi\r\nTo: x@y.example\r\n\r\nbody\r\n"
QUESTION = """
import sys, importlib.util
from email import message_from_bytes
from flufl.bounce import all_failures
temporary, permanent = all_failures(message_from_bytes(sys.stdin.buffer.read()))
print(sorted(a.decode() for a in temporary), sorted(a.decode() for a in permanent))
"""


def asked(action: Action, *states: RecipientState, ret: str = "") -> str:
    """Return what the judge reads out of a report: whom it gives up for now, and for good."""
    python_program("python")
    if not list(PYTHON_PROGRAMS.parent.glob("lib/python*/site-packages/flufl/bounce")):
        pytest.skip("flufl.bounce is not installed; `make judges` installs it where the package index is reached")
    envelope = Envelope(
        queue_id=new_queue_id(1_790_000_000_000, b"x" * 13), instance="i", configuration="c", domain="d.example",
        lane="transactional", sender="app@d.example", received_at=NOW, expires_at=None, size=len(ORIGINAL),
        recipients=tuple(Recipient(number=s.number, address=s.address) for s in states), sha256="", ret=ret,
    )  # fmt: skip
    report = dsn.report(
        envelope, states, attempt=1, to="app@d.example", original=ORIGINAL, reporting_mta="relay.example", now=NOW,
        action=action, until=NOW, full_bytes=1 << 20,
    )  # fmt: skip
    done = subprocess.run(
        [PYTHON_PROGRAMS / "python", "-c", QUESTION], input=report.mail, capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().strip()


def bounced(number: int, address: str) -> RecipientState:
    """Return a recipient that was refused for good."""
    last = Diagnosis(code=550, enhanced="5.1.1", text="no such user", host="mx.y.example", phase="rcpt")
    return RecipientState(number=number, address=address, status="bounced", at=NOW, last=last)


@pytest.mark.parametrize("ret", ["", "FULL"])
def test_failures(ret: str) -> None:
    """Every recipient that failed is found, and nobody else, whether the mail comes back whole or not."""
    said = asked("failed", bounced(1, "x@y.example"), bounced(2, '"a b"+c@y.example'), ret=ret)
    assert said.startswith("[] [")
    assert "'x@y.example'" in said
    assert said.count("@") == 2


def test_a_delay_is_no_failure() -> None:
    """A delay is read as temporary; a report that says `relayed` as neither."""
    waiting = msgspec.structs.replace(bounced(1, "x@y.example"), status="deferred")
    assert asked("delayed", waiting) == "['x@y.example'] []"
    good = msgspec.structs.replace(waiting, status="delivered", last=None)
    assert asked("relayed", good) == "[] []"
