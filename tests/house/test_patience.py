"""What waits in a test comes to an end."""

import ast
import asyncio
from pathlib import Path

import pytest

from tests import patience

ROOT = Path(__file__).parents[2]


def cancellations(source: str) -> list[int]:
    """Return the lines of a module that cancel a task or a timer."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and not node.args)
    return [call.lineno for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "cancel"]


def test_only_patience_cancels() -> None:
    """A test that cancels once and then waits may wait for ever; `patience.ended` cancels again."""
    assert cancellations("task.cancel()\nawait task") == [1]  # the control
    others = {Path(patience.__file__), ROOT / "tests/conftest.py"}  # the latter's are timers
    modules = {path for place in ("tests", "benchmarks") for path in (ROOT / place).rglob("*.py")} - others
    assert len(modules) > 100
    assert [f"{path}:{line}" for path in modules for line in cancellations(path.read_text())] == []


async def test_a_task_that_swallows_a_cancellation_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cancelled again until it has ended, as itself or in the group of a block."""
    monkeypatch.setattr(patience, "INSIST_SECONDS", 0.01)
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        for _ in range(3):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(3600)

    async with asyncio.timeout(20):
        alone = asyncio.create_task(deaf())
        await asyncio.sleep(0)
        await patience.ended(alone)
        assert (alone.cancelled(), swallowed) == (True, 3)
        async with patience.tasks_of_a_block() as tasks:
            grouped = tasks.create_task(deaf())
            await asyncio.sleep(0)
        assert (grouped.cancelled(), swallowed) == (True, 6)
