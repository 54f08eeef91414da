"""What the doctor makes of the roll call and of what the bus says of its store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from services.control.core.examination import Remark, Thresholds, of_rooms, of_store
from shared.contract.catalog import BUCKETS, ROOMS, STREAMS
from shared.contract.examination import Finding, Present

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
THRESHOLDS = Thresholds(fill_percent=80, clock_seconds=2, waiting_messages=100)


def present(room: str, **changes: Any) -> Present:
    """Return a process that is well, but for the changes."""
    return structs.replace(Present(room=room, process=f"host:{room}", at=NOW, waiting_for={}), **changes)


def bad(remarks: list[Remark]) -> list[tuple[str, str]]:
    """Return where and what is not well."""
    assert all(each.advice for each in remarks if each.state != "ok" and each.check != "own")
    return [(each.where, each.check) for each in remarks if each.state != "ok"]


def test_everybody_is_there_and_well() -> None:
    """One line a room says so."""
    remarks = of_rooms([present(room) for room in ROOMS], NOW, NOW, THRESHOLDS)
    assert bad(remarks) == []
    assert {each.where for each in remarks} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_that_does_not_answer_is_missed(room: str) -> None:
    """Whichever it is."""
    assert bad(of_rooms([present(each) for each in ROOMS if each != room], NOW, NOW, THRESHOLDS)) == [(room, "running")]


def test_a_process_that_is_not_ready_late_or_unwell_is_told_from_its_replica() -> None:
    """Each process speaks for itself."""
    own = Finding(check="own", state="warning", sentence="something")
    unwell = present("ingress", process="host:2", waiting_for={"durability": "not proven"}, findings=(own,))
    late = present("ingress", process="host:3", at=NOW - timedelta(seconds=9))
    remarks = of_rooms([*(present(room) for room in ROOMS), unwell, late], NOW, NOW, THRESHOLDS)
    assert bad(remarks) == [("ingress", "ready"), ("ingress", "own"), ("ingress", "clock")]
    (not_ready,) = [each for each in remarks if each.check == "ready" and each.state == "bad"]
    assert not_ready.process == "host:2"
    assert "durability: not proven" in not_ready.sentence


def store(**changes: Any) -> dict[str, Any]:
    """Return what a server that is well says; changes are of its streams."""
    names = [s.name.replace("{s}", "0") for s in STREAMS] + [f"KV_{b.name}" for b in BUCKETS]
    details = [
        {"name": name, "state": {"bytes": 10, "messages": 1}, "config": {"max_bytes": 100}, "consumer_detail": []}
        | changes.get(name, {})
        for name in names
        if changes.get(name, {}) is not None
    ]
    return {
        "server": {"name": "n1"},
        "data": {
            "config": {"sync_always": True, "max_storage": 1000},
            "storage": 100,
            "account_details": [{"stream_detail": details}],
        },
    }


def test_a_store_that_is_well() -> None:
    """Durability, disk, streams and consumers have a line each."""
    remarks = of_store([store()], THRESHOLDS)
    assert bad(remarks) == []
    assert [each.check for each in remarks] == ["durability", "disk", "streams", "consumers"]


def test_nobody_says_how_it_stores() -> None:
    """Silence is not durability."""
    assert bad(of_store([], THRESHOLDS)) == [("bus", "durability")]


def test_a_stream_that_forgets_may_be_full() -> None:
    """It makes room by itself."""
    full = {"state": {"bytes": 100}, "config": {"max_bytes": 100, "discard": "old"}}
    assert bad(of_store([store(REFUSALS=full)], THRESHOLDS)) == []


def test_what_is_wrong_with_a_store_is_found() -> None:
    """No sync, a full disk, a missing stream, a full one, a reader behind, a reader stuck."""
    consumer = {"name": "slow", "num_pending": 100, "num_ack_pending": 0, "config": {"max_ack_pending": 5}}
    stuck = {"name": "stuck", "num_pending": 0, "num_ack_pending": 5, "config": {"max_ack_pending": 5}}
    answer = store(
        MAIL_0={"state": {"bytes": 81}},
        AUDIT=None,
        STATUS={"consumer_detail": [consumer]},
        RETRY_0={"consumer_detail": [stuck]},
    )
    answer["data"]["config"] = {"sync_always": False, "max_storage": 100}
    remarks = of_store([answer], THRESHOLDS)
    told = " ".join(each.sentence for each in remarks if each.state != "ok")
    assert bad(remarks) == [
        ("bus", "durability"), ("bus", "disk"), ("bus", "streams"), ("bus", "streams"),
        ("bus", "consumers"), ("bus", "consumers"),
    ]  # fmt: skip
    for words in (
        "does not sync",
        "100 %",
        "not there: AUDIT",
        "MAIL_0 (81 %)",
        "100 messages of STATUS",
        "RETRY_0/stuck",
    ):
        assert words in told
