"""The queue acted on by selection, its shape, and suppressed recipients, by command on a running system."""

import json
from collections.abc import Iterator

import httpx
import pytest

from services.command.admin.exits import CONFLICT, DONE, INVALID, UNKNOWN
from tests.journeys.test_command import inside, lines
from tests.system import System, eventually

NEVER = "defer+99x@slow.example"


@pytest.fixture
def waiting(system: System) -> Iterator[list[str]]:
    """Give a test three messages to one destination that does not take them, and one that waits elsewhere."""
    queue_ids = [system.send(NEVER, f"select-{number}") for number in range(3)]
    queue_ids.append(system.send("defer+99x@elsewhere.example", "select-other"))
    for queue_id in queue_ids:
        eventually(f"{queue_id} is deferred", lambda queue_id=queue_id: system.status(queue_id) == "deferred")  # type: ignore[misc]
    yield queue_ids

    def gone() -> bool:
        """One that is on its way at that moment cannot be dropped; left there, the next test would find it."""
        inside(system, "queue", "drop", *queue_ids, "--yes")
        return {system.status(queue_id) for queue_id in queue_ids} == {"dropped"}

    eventually("all are dropped", gone)


def test_messages_are_selected_held_released_and_dropped(system: System, waiting: list[str]) -> None:
    """A dry run does nothing; each act reaches exactly the messages meant; a reason is in the timeline."""
    to_slow = ("--recipient", "@slow.example")
    planned = lines(system, "queue", "hold", *to_slow, "--dry-run")
    assert {each["queue_id"] for each in planned} == set(waiting[:3])
    assert {system.status(queue_id) for queue_id in waiting} == {"deferred"}

    def all_held() -> bool:
        """Those on their way at that moment are told, and can be held once they have come back."""
        done = inside(system, "queue", "hold", *to_slow, "--reason", "slow.example is away")
        assert done.exit_code in (DONE, CONFLICT), done.output
        return "3 of 3 messages" in done.stderr

    eventually("three of three", all_held)
    held = ["held", "held", "held", "deferred"]
    eventually("the three are held", lambda: [system.status(queue_id) for queue_id in waiting] == held)
    assert "slow.example is away" in inside(system, "why", waiting[0]).stdout
    assert "no message is meant" in inside(system, "queue", "hold", *to_slow, "--older-than", "3d").stderr

    assert "3 of 3" in inside(system, "queue", "release", *to_slow).stderr
    eventually("goes on", lambda: all(system.status(queue_id) != "held" for queue_id in waiting))

    def all_dropped() -> bool:
        """Those on their way at that moment are told, and can be dropped once they have come back."""
        dropped = inside(system, "queue", "drop", *to_slow, "--yes", "--reason", "not wanted any more")
        assert dropped.exit_code in (DONE, CONFLICT), dropped.output
        return {system.status(queue_id) for queue_id in waiting[:3]} == {"dropped"}

    eventually("dropped", all_dropped)
    assert system.status(waiting[3]) in ("queued", "deferred")
    read_by_the_tenant = lines(system, "audit", "--instance", system.tenant["instance_id"], "--key", waiting[0])
    assert {each["action"] for each in read_by_the_tenant} >= {"queue hold", "queue release", "queue drop"}


def test_what_cannot_be_selected_is_said(system: System, waiting: list[str]) -> None:
    """Neither named nor selected, both, a wrong age, a wrong status, an unknown message."""
    assert inside(system, "queue", "retry").exit_code == INVALID
    assert inside(system, "queue", "retry", waiting[0], "--recipient", "@slow.example").exit_code == INVALID
    assert inside(system, "queue", "retry", "--older-than", "soon").exit_code == INVALID
    assert inside(system, "queue", "hold", "--status", "delivered").exit_code == INVALID
    for reason in ("x" * 501, "\x1b[31m"):  # it stands in the timeline, for people to read
        assert inside(system, "queue", "hold", waiting[0], "--reason", reason).exit_code == INVALID
    assert inside(system, "queue", "retry", "01KQSDR2G08ZQ4T7B9XJ2M6C3WFVNR").exit_code == UNKNOWN
    eventually("it is held", lambda: inside(system, "queue", "hold", waiting[3]).exit_code == DONE)
    assert inside(system, "queue", "retry", waiting[3]).exit_code in (CONFLICT, UNKNOWN)


def test_the_shape_of_the_queue(system: System, waiting: list[str]) -> None:
    """Destinations with the most unfinished recipients first, counted by age; a reader of nothing sees nothing."""
    (found,) = lines(system, "queue", "shape", "--domain", system.tenant["domain"])
    rows = {row["destination"]: row for row in found["rows"]}  # type: ignore[attr-defined]
    assert rows["slow.example"]["total"] == 3
    assert sum(rows["slow.example"]["by_age"]) == 3
    assert rows["slow.example"]["by_age"][0] == 3, "accepted within the last five minutes"
    assert len(rows["slow.example"]["by_age"]) == len(found["minutes"]) + 1  # type: ignore[arg-type]
    table = inside(system, "queue", "shape").stdout
    assert table.split()[:2] == ["DESTINATION", "TOTAL"]
    assert "slow.example" in table
    foreign = system.api("POST", "/v1/postlane/instances", json={"name": "stranger"}).json()["id"]
    key = system.api("POST", "/v1/postlane/keys", json={"role": "reader", "instance": foreign}).json()["api_key"]
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{system.ready['http']}/v1/postlane/queue/shape", headers=headers, trust_env=False, timeout=60)
    assert answer.json()["rows"] == []


def test_a_suppressed_recipient_gets_nothing_until_taken_off(system: System) -> None:
    """By hand or by a bounce; listed, searched, removed; mail goes again afterwards."""
    domain = system.tenant["domain"]
    assert inside(system, "suppression", "add", domain, "gone@inbox.example", "--reason", "asked to").exit_code == 0
    assert inside(system, "suppression", "add", domain, "gone@inbox.example").exit_code == CONFLICT
    assert inside(system, "suppression", "add", domain, "nonsense").exit_code == INVALID
    eventually(
        "listed",
        lambda: "gone@inbox.example" in inside(system, "suppression", "ls", domain, "--search", "asked").stdout,
    )

    def suppressed() -> bool:
        """Delivery hears of the list by itself: mail that comes at once may still go."""
        queue_id = system.send("gone@inbox.example", "suppressed")
        eventually("decided", lambda: system.status(queue_id) in ("suppressed", "delivered"))
        return system.status(queue_id) == "suppressed"

    eventually("suppressed", suppressed)
    assert inside(system, "suppression", "rm", domain, "gone@inbox.example", "--yes").exit_code == 0
    assert inside(system, "suppression", "rm", domain, "gone@inbox.example", "--yes").exit_code == UNKNOWN
    eventually("taken off", lambda: "gone@" not in inside(system, "suppression", "ls", domain).stdout)

    bounced = system.send("bounce+550-5.1.1@suppression.example", "enters")
    eventually("bounced", lambda: system.status(bounced) == "bounced")
    eventually("entered", lambda: any(
        each["queue_id"] == bounced for each in map(json.loads, inside(
            system, "suppression", "ls", domain, "-o", "json").stdout.splitlines())
    ))  # fmt: skip
    inside(system, "suppression", "rm", domain, "bounce+550-5.1.1@suppression.example", "--yes")
    assert "suppression." in inside(system, "audit").stdout
