"""Three servers, three copies: leaders and majorities die or freeze, disks go, under submissions (B09, B10).

The rounds and the ledger are those of `benchmarks/quorum_run.py`, which does more of them.
"""

from pathlib import Path
from typing import Any

from benchmarks.quorum_run import run


def as_it_must_be(report: dict[str, Any]) -> None:
    """Nothing accepted is missing but what was taken away, no 5xx, no 250 without a majority, mail is taken again."""
    assert report["missing"] == report["lost_on_purpose"]
    assert [report[name] for name in ("unfounded", "permanent", "unmarked", "idle")] == [0, [], [], []]
    assert report["accepted"] > 0


async def test_majorities_die(tmp_path: Path) -> None:
    """Without a majority clients are told 451 or 421; the message taken away on purpose is the only one missing."""
    report = await run(tmp_path, ["two of three killed", "all three killed"], lose=1)
    as_it_must_be(report)
    assert len(report["lost_on_purpose"]) == 1
    assert set(report["refused"]) <= {"451 4.3.0", "421 4.3.2"}
    assert sum(report["refused"].values()) >= 2


async def test_leaders_die(tmp_path: Path) -> None:
    """The two that are left go on."""
    as_it_must_be(await run(tmp_path, ["leader killed", "leader frozen"]))


async def test_disks_are_replaced(tmp_path: Path) -> None:
    """Every server in turn comes back with an empty disk while all mail waits: the others give it what it had."""
    report = await run(tmp_path, ["disks replaced one by one"], lose=1, settle=True, deliver_late=True)
    as_it_must_be(report)
    assert len(report["lost_on_purpose"]) == 1
    assert report["waiting"] == 0
