"""The line to an exchanger: replies are paired with what asked for them, at a bounded price."""

import asyncio
from typing import Any

import aiosmtplib
import pytest
from aiosmtplib.response import SMTPResponse

from services.delivery.line import Line


class Transport(asyncio.Transport):
    """A transport that leads nowhere."""

    def write(self, data: Any) -> None:
        """Take what is written."""

    def is_closing(self) -> bool:
        """Stay open."""
        return False


def line() -> Line:
    """Return a protocol that is connected, its greeting still to come."""
    made = Line(asyncio.get_running_loop(), lambda _: None)
    made.connection_made(Transport())
    return made


async def greeted(made: Line) -> SMTPResponse:
    """Return the reply aiosmtplib waits for."""
    return await made.read_response(timeout=10)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("end", [b"250 ok\r\n", b"nonsense\r\n"])
async def test_octet_by_octet(ours: bool, end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long reply in single octets is read once, not once for each octet: else one server could occupy us all."""
    made, reads = line(), 0
    read = made._read_response_from_buffer

    def counted() -> SMTPResponse | None:
        nonlocal reads
        reads += 1
        return read()

    monkeypatch.setattr(made, "_read_response_from_buffer", counted)
    future = made.expect(1)[0] if ours else asyncio.ensure_future(greeted(made))
    await asyncio.sleep(0)
    for octet in b"250-\r\n" * 5000 + end:
        made.data_received(bytes([octet]))
    if end == b"250 ok\r\n":
        assert (await future).code == 250
    else:
        with pytest.raises(aiosmtplib.SMTPResponseException) as fault:
            await future
        assert fault.value.code == -1
    assert reads <= 1


@pytest.mark.parametrize("pieces", [[b"220 mx\r\n250 forged\r\n"], [b"220 m", b"x\r\n250 forg", b"ed\r\n"]])
async def test_what_follows_the_greeting_answers_nothing(pieces: list[bytes]) -> None:
    """A line behind the greeting is not taken for the reply to the first command."""
    made = line()
    for piece in pieces:
        made.data_received(piece)
    assert (await greeted(made)).code == 220
    assert made.disturbed
    asking = asyncio.ensure_future(made.execute_command(b"EHLO", b"relay.test", timeout=10))
    await asyncio.sleep(0)
    made.data_received(b"250-mx\r\n250 STARTTLS\r\n")
    assert (await asking).message == "mx\nSTARTTLS"


async def test_replies_in_one_piece_and_in_many() -> None:
    """Replies to commands sent together come apart at their last lines, however the octets arrive."""
    octets = b"250-a\r\n250 b\r\n550 5.1.1 no\r\n354 go\r\n"
    for step in (1, 2, 7, len(octets)):
        made = line()
        made.data_received(b"220 mx\r\n")
        await greeted(made)
        futures = made.expect(3)
        for start in range(0, len(octets), step):
            made.data_received(octets[start : start + step])
        assert [(await future).code for future in futures] == [250, 550, 354]
        assert not made.disturbed


@pytest.mark.parametrize("octets", [b"x" * 40_000, b"250-" + b"x" * 9000 + b"\r\n250 ok\r\n", b"250-ok\r\n" * 5000])
async def test_endless_replies_end(octets: bytes) -> None:
    """A line without an end, a line too long and a reply without an end are unreadable."""
    for ours in (True, False):
        made = line()
        future = made.expect(1)[0] if ours else asyncio.ensure_future(greeted(made))
        await asyncio.sleep(0)
        made.data_received(octets)
        with pytest.raises(aiosmtplib.SMTPResponseException):
            await future
        assert made.disturbed or not ours
