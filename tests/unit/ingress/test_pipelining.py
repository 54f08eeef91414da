"""A client that sends commands without end, each of them allowed, does not keep others waiting."""

import asyncio
import base64

from services.ingress.smtpd import COMMANDS_IN_A_ROW
from tests.fuzz.session_world import SessionWorld

COUNT = 1_000


def test_others_have_their_turn() -> None:
    """Of a thousand commands that came at once, a few are obeyed in one turn of the loop; all are in the end."""
    world = SessionWorld()
    plain = base64.b64encode(b"\0alice\0secret").decode()
    for command in ("EHLO x", "STARTTLS", "EHLO x", f"AUTH PLAIN {plain}", "MAIL FROM:<a@shop.example>"):
        world.send(f"{command}\r\n".encode())
    assert world.said()[-1].startswith(b"250")

    async def turns() -> int:
        counted = 0
        while len(world.session.inbound):
            counted += 1
            await asyncio.sleep(0)
        return counted

    world.session.data_received(b"RCPT TO:<b@y.example>\r\n" * COUNT)
    assert world.loop.run_until_complete(turns()) >= COUNT // COMMANDS_IN_A_ROW - 1
    world.send(b"NOOP\r\n")
    assert [reply[:9] for reply in world.said()] == [b"250 2.1.5"] * COUNT + [b"250 2.0.0"]
    world.close()
