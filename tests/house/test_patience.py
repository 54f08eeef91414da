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


LEAST_SECONDS = 15
"""On a busy machine a process may take so long to start, and the bus to answer."""
WAITS = {"wait_for", "until", "until_seen", "eventually"}


def hasty(source: str) -> list[int]:
    """Return the lines of a module that give something less time, in figures, than a busy machine takes."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        bounds = call.args if name == "timeout" else call.args[1:] if name in WAITS else []
        bounds = bounds + [each.value for each in call.keywords if each.arg == "seconds" and name in WAITS]
        given = [each.value for each in bounds if isinstance(each, ast.Constant)]
        figures = [each for each in given if isinstance(each, int | float) and not isinstance(each, bool)]
        if any(each < LEAST_SECONDS for each in figures):
            found.append(call.lineno)
    return found


def test_nothing_is_given_less_time_than_a_busy_machine_takes() -> None:
    """What must not happen is waited for by name (`QUIET_SECONDS`), for as long as the test finds right."""
    assert hasty("async with asyncio.timeout(5): pass\nawait until('x', holds, seconds=9.5)") == [1, 2]  # the control
    assert hasty("async with asyncio.timeout(QUIET_SECONDS): pass\nawait until('x', holds, 60)") == []
    modules = [path for path in (ROOT / "tests").rglob("*.py") if "unit" not in path.parts]
    assert [f"{path}:{line}" for path in modules for line in hasty(path.read_text())] == []


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
