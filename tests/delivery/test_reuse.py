"""A session whose transaction came to nothing is used again, after RSET, and never for something it was not asked."""

from pathlib import Path

import pytest

from services.delivery import session
from services.delivery.core.outcome import Bounced, Deferred, Delivered
from services.delivery.pool import REFUSALS_LIMIT
from tests.delivery.exchanger import Action, Exchanger
from tests.delivery.test_courier import MAIL, OK, field, only

NO: tuple[Action, ...] = (b"550 5.1.1 no\r\n",)
FIRST: tuple[Action, ...] = (b"503 5.5.1 not now\r\n",)
GO: tuple[Action, ...] = (b"354 go\r\n",)
REFUSED: dict[str, tuple[dict[str, list[tuple[Action, ...]]], type]] = {
    "MAIL": ({"MAIL": [NO, (OK,)], "RCPT": [FIRST, (OK,)], "DATA": [FIRST, GO]}, Bounced),
    "RCPT": ({"RCPT": [NO, (OK,)], "DATA": [FIRST, GO]}, Bounced),
    "RCPT for now": ({"RCPT": [(b"450 4.2.1 busy\r\n",), (OK,)], "DATA": [FIRST, GO]}, Deferred),
    "DATA": ({"DATA": [(b"451 4.3.0 later\r\n",), GO]}, Deferred),
}


def script(refused: str, *, pipelining: bool) -> Exchanger:
    """Return an exchanger that refuses one transaction."""
    exchanger = Exchanger(extensions=("PIPELINING",) if pipelining else ())
    exchanger.script = {verb: list(uses) for verb, uses in REFUSED[refused][0].items()}
    if not pipelining:  # what follows a refusal is not even asked for
        for verb in {"MAIL": ("RCPT", "DATA"), "RCPT": ("DATA",), "RCPT for now": ("DATA",), "DATA": ()}[refused]:
            del exchanger.script[verb]
    return exchanger


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("refused", REFUSED)
async def test_refused_and_used_again(refused: str, pipelining: bool, tmp_path: Path) -> None:
    """The next message goes over the same connection, and begins with RSET; the one after it needs none."""
    exchanger = script(refused, pipelining=pipelining)
    async with field(tmp_path, await exchanger.start()) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), REFUSED[refused][1])
        for name in ("y", "z"):
            assert isinstance(only(await made.send(f"{name}@rcpt.test")), Delivered)
    verbs = [line.split(b" ")[0] for line in exchanger.commands]
    assert exchanger.connections == 1
    assert verbs.count(b"RSET") == 1
    assert verbs[verbs.index(b"RSET") + 1 :][:3] == [b"MAIL", b"RCPT", b"DATA"]
    assert [message.recipients for message in exchanger.received] == [["y@rcpt.test"], ["z@rcpt.test"]]


async def test_a_server_that_waits_for_a_message_is_cut(tmp_path: Path) -> None:
    """354 without any recipient: no octet of the next message may be taken for this one."""
    exchanger = Exchanger(extensions=("PIPELINING",))
    exchanger.script["RCPT"] = [NO, (OK,)]
    async with field(tmp_path, await exchanger.start()) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Bounced)
        assert isinstance(only(await made.send("y@rcpt.test")), Delivered)
    assert exchanger.connections == 2
    assert [message.recipients for message in exchanger.seen] == [["y@rcpt.test"]]


async def test_a_server_that_says_no_more_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has said of the recipient counts; the connection is given up."""
    monkeypatch.setattr(session, "SOON_SECONDS", 0.1)
    exchanger = Exchanger(extensions=("PIPELINING",))
    exchanger.script = {"RCPT": [NO, (OK,)], "DATA": [(30.0, b"503 no\r\n"), GO]}
    async with field(tmp_path, await exchanger.start(), command_timeout_seconds=20.0) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Bounced)
        assert isinstance(only(await made.send("y@rcpt.test")), Delivered)
    assert exchanger.connections == 2


@pytest.mark.parametrize("reply", [b"421 4.4.2 idle\r\n", b"500 what\r\n", b"nonsense\r\n"])
async def test_rset_that_fails(reply: bytes, tmp_path: Path) -> None:
    """A session that cannot be cleared is replaced, and costs the message nothing."""
    exchanger = Exchanger(extensions=("PIPELINING",))
    exchanger.script = {"RCPT": [NO, (OK,)], "DATA": [FIRST, GO], "RSET": [(reply, None)]}
    async with field(tmp_path, await exchanger.start()) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Bounced)
        assert isinstance(only(await made.send("y@rcpt.test")), Delivered)
    assert exchanger.connections == 2
    assert len(exchanger.seen) == 1


@pytest.mark.parametrize("pause", [(), (0.1,)])
async def test_what_is_said_in_the_middle_of_a_message(pause: tuple[Action, ...], tmp_path: Path) -> None:
    """A server that refuses while the message is sent, and closes: it is tried again, and the record says why."""
    exchanger = Exchanger()
    exchanger.script["DATA"] = [(b"354 go\r\n", *pause, b"552 5.3.4 too \x1bbig\r\n", 0.1, None)]
    async with field(tmp_path, await exchanger.start()) as made:
        result = only(await made.send("x@rcpt.test", mail=MAIL + b"x" * 70 + b"\r\n" * 4_000_000))
    assert isinstance(result, Deferred)
    assert not result.ambiguous
    assert result.diagnosis.enhanced == "4.4.2"
    assert "unasked: 552 5.3.4 too  big" in result.diagnosis.text


async def test_patience_is_not_tried(tmp_path: Path) -> None:
    """A session with many refusals is ended with QUIT before the server does it."""
    exchanger = Exchanger()
    exchanger.script["RCPT"] = [NO]
    async with field(tmp_path, await exchanger.start()) as made:
        for _ in range(REFUSALS_LIMIT + 1):
            assert isinstance(only(await made.send("x@rcpt.test")), Bounced)
        await exchanger.until(lambda: exchanger.uses(b"QUIT") != [])
    assert exchanger.connections == 2


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("reply", [b"503 5.5.1 EHLO first\r\n", b"550 5.7.0 enough messages in this session\r\n"])
async def test_a_kept_session_gives_nobody_up(reply: bytes, pipelining: bool, tmp_path: Path) -> None:
    """MAIL refused for good may be said of what was before in this session: a new one is asked, and its word counts."""
    exchanger = Exchanger(extensions=("PIPELINING",) if pipelining else ())
    async with field(tmp_path, await exchanger.start()) as made:
        exchanger.script["MAIL"] = [(OK,), (reply,), (OK,), (b"550 5.7.1 not you\r\n",)]
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
        exchanger.script["DATA"] = [FIRST, GO, FIRST] if pipelining else []
        assert isinstance(only(await made.send("y@rcpt.test")), Delivered)
        assert exchanger.connections == 2
        assert isinstance(only(await made.send("z@rcpt.test")), Bounced)
    assert [message.recipients for message in exchanger.received] == [["x@rcpt.test"], ["y@rcpt.test"]]
