"""The fault run of `benchmarks/fault_run.py`, small: its ledger names what was lost on purpose, and nothing else is."""

from benchmarks.fault_run import run


async def test_only_what_was_lost_on_purpose_is_missing() -> None:
    """Workers and the server are killed every few seconds; copies beyond the first are near a kill."""
    report = await run(200, pauses=(2.0, 4.0), lose=2, seed=3, seconds=240)
    assert sum(report["killed"].values()) > 0
    assert report["missing"] == report["lost_on_purpose"] == ["lost0@rcpt.test", "lost1@rcpt.test"]
    assert [report[name] for name in ("foreign", "outside", "unmarked", "unsaid")] == [[], [], [], []]
