"""kill -9 of any one process while mail is submitted and delivered: nothing accepted is lost."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.ledger import Submitters, subjects_of
from tests.system import System, eventually

MESSAGES = 200
CLIENTS = 4
PROCESSES = ("nats-server", "ingress", "delivery", "verifier", "tracker", "control", "sandbox")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the tests of this module one running system."""
    running = System(tmp_path_factory.mktemp("faults")).start()
    yield running
    running.stop()


def recipient(number: int) -> str:
    """Every tenth message is refused twice by its exchanger before it is taken."""
    return f"defer+2x@d{number % 3}.inbox.example" if number % 10 == 0 else f"delivered@d{number % 3}.inbox.example"


@pytest.mark.parametrize("process", PROCESSES)
def test_nothing_accepted_is_lost_when_a_process_is_killed(system: System, process: str) -> None:
    """200 submissions, the process killed in the middle: each one answered 250 arrives, deferrals included."""
    run = Submitters(system, f"kill-{process}", MESSAGES, CLIENTS, recipient)
    run.start()
    eventually("a third was sent", lambda: run.sent >= MESSAGES // 3, 60)
    before = system.pid(process)
    system.kill(process)
    run.join(120)
    eventually(f"{process} runs again", lambda: system.pid(process) != before, 30)
    ledger = run.ledger

    def arrived() -> list[str]:
        return [marker for marker in subjects_of(system.arrived()) if marker.startswith(f"kill-{process}-")]

    def delivered(queue_id: str) -> bool:
        # What ingress accepted last may have its acceptance still unpublished when it is killed.
        return system.status(queue_id, with_acceptance=False) == "delivered"

    eventually(f"arrival of {len(ledger.accepted)} accepted messages", lambda: not ledger.missing(arrived()), 120)
    assert ledger.missing(arrived()) == set()
    assert ledger.ghosts(arrived()) - ledger.unknown == set()
    assert len(ledger.accepted) + len(ledger.refused) == MESSAGES
    assert all(reply[0] == "4" for reply in ledger.refused.values()), "a fault of ours is never a 5xx"
    for queue_id in list(ledger.accepted.values()):
        eventually(f"{queue_id} delivered", partial(delivered, queue_id), 60)
    for marker in ledger.duplicates(arrived()).keys() - ledger.unknown:
        # Its client was not cut off before the answer, to send it again: delivery must say that it may have gone twice.
        queue_id = ledger.accepted[marker]
        eventually(f"{marker} is marked", lambda queue_id=queue_id: system.may_be_twice(queue_id))  # type: ignore[misc]


def test_the_ledger_finds_a_loss_made_on_purpose(system: System) -> None:
    """The control: a message dropped by an operator is accepted and does not arrive, and the ledger says so."""
    run = Submitters(
        system, "control", 3, 1, lambda n: "defer+99x@inbox.example" if n == 2 else "delivered@inbox.example"
    )
    run.start()
    run.join(60)
    lost = run.ledger.accepted["control-2"]
    eventually("deferral", lambda: system.status(lost) == "deferred", 30)
    drop = ("queue", "drop", lost, "--reason", "a loss on purpose", "--yes")
    eventually("nobody is trying it", lambda: system.postlane(*drop, check=False).returncode == 0)
    eventually("drop", lambda: system.status(lost) == "dropped", 30)

    def others_arrived() -> bool:
        return run.ledger.missing(subjects_of(system.arrived())) <= {"control-2"}

    eventually("arrival of the others", others_arrived, 30)
    assert run.ledger.missing(subjects_of(system.arrived())) == {"control-2"}


def test_a_second_up_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    """Nothing is lost over a stop, and credentials stay the same."""
    system = System(tmp_path / "again").start()
    first = system.ready
    waiting = system.send("defer+4x@inbox.example", "over-the-stop")
    eventually("deferral", lambda: system.status(waiting) == "deferred", 30)
    assert system.stop() == 0
    system.start()
    try:
        assert system.tenant == first["tenant"]
        assert system.ready["operator"] == first["operator"]
        assert system.ready["smtp"] == first["smtp"]
        assert system.ready["nats_password"] == first["nats_password"]
        eventually("delivery after the restart", lambda: system.status(waiting) == "delivered", 90)
    finally:
        assert system.stop() == 0
    assert subjects_of(system.arrived()).count("over-the-stop") == 1
