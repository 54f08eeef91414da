"""Faults of our own inside a session: the client hears that it may try again, and in which session."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.fuzz.session_world import SessionWorld


@pytest.fixture
def world() -> Iterator[SessionWorld]:
    """Give a test a session that has been greeted."""
    made = SessionWorld()
    assert made.said()[0].startswith(b"220")
    yield made
    made.close()


async def _fail(*_: object) -> None:
    await asyncio.sleep(0)
    raise ArithmeticError("on purpose")


def test_a_fault_in_a_command_leaves_the_session_open(world: SessionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """451 with a reference, and nothing of what happened; the next command is obeyed."""
    monkeypatch.setitem(world.session.COMMANDS, "NOOP", _fail)
    world.send(b"NOOP\r\n")
    world.send(b"EHLO x\r\n")
    failed, *ehlo = world.said()
    assert failed.startswith(b"451 4.3.0 Something went wrong")
    assert b"purpose" not in failed
    assert ehlo[-1].startswith(b"250 ")
    assert ["ArithmeticError" in seen for seen in world.faults.seen] == [True]
    assert not world.wire.closed


def test_a_fault_outside_of_commands_ends_it(world: SessionWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """421 with a reference: the server closes the connection, and says that it does."""
    monkeypatch.setattr(world.session.inbound, "more", _fail)
    world.send(b"EHLO x\r\n")
    *_, failed = world.said()
    assert failed.startswith(b"421 4.3.0 Something went wrong")
    assert b"R-0123456789" in failed
    assert b"purpose" not in failed
    assert ["ArithmeticError" in seen for seen in world.faults.seen] == [True]
    assert world.wire.closed
