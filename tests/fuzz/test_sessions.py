"""Sessions of any shape against a model: one reply per command, nothing stored without 250, nothing left behind.

The model knows only what a client may rely on. The commands come in any order, in any case, cut anywhere.
"""

import base64
import re
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fuzz.session_world import SETTINGS, SessionWorld

REPLY = re.compile(rb"[2345]\d\d[ -][\x20-\x7e]*")
ENDING = {b"221", b"421", b"521"}
SENDERS = {
    "<a@shop.example>": True,
    "<A@SHOP.example>": True,
    "<>": True,
    "<x@rival.example>": False,
    "nonsense": False,
}
RECIPIENTS = {
    "<b@y.example>": True, '<"q q"@y.example>': True, "<c@y.example>": True, "<d@y.example>": True, "<>": False,
    "<x@[127.0.0.1]>": False, "<b@y.example> NOTIFY=BOTH": False,
}  # fmt: skip
BODIES = {
    "plain": "Hello", "empty": "", "dots": "..", "dots within": "a\r\n..b\r\n.c", "long line": "x" * 998,
}  # fmt: skip
BAD_BODIES = {
    "too long line": "x" * 999, "bare LF": "a\nb", "bare CR": "a\rb", "NUL": "\0", "too large": "y\r\n" * 2_000,
}  # fmt: skip
AUTHORS = {"a@shop.example": True, "x@rival.example": False, "": False}
junk = st.binary(max_size=40).map(lambda octets: octets.replace(b"\n", b"").replace(b"\r", b""))


class Sessions(RuleBasedStateMachine):
    """One client, connection after connection."""

    settings_of_run: ClassVar[settings] = settings(max_examples=60, stateful_step_count=40)

    def __init__(self) -> None:
        super().__init__()
        self.world = SessionWorld()
        self.counter = 0
        self._fresh()
        assert [line[:3] for line in self.world.said()] == [b"220"]

    def _fresh(self) -> None:
        self.tls = self.known = self.greeted = False
        self._reset()

    def _reset(self) -> None:
        self.sender: str | None = None
        self.recipients: list[str] = []

    def ask(self, line: bytes, cut: int = 0, end: bytes = b"\r\n") -> bytes:
        """Send a command in two pieces; return the code of its one reply."""
        octets = line + end
        before = len(self.world.stored)
        at = cut % (len(octets) + 1)
        for piece in (octets[:at], octets[at:]):
            if piece:
                self.world.send(piece)
        code = self._one_reply()
        if not line.upper().startswith(b"DATA"):
            assert len(self.world.stored) == before
        return code

    def _one_reply(self) -> bytes:
        lines = self.world.said()
        assert lines, "no reply"
        assert all(REPLY.fullmatch(line) and len(line) <= 510 for line in lines), lines
        last = [line for line in lines if line[3:4] == b" "]
        if len(last) == 2 and last[1][:3] == b"421":  # the one that ends a session with too many errors
            lines, last = lines[:-1], last[:-1]
            assert self.world.over
        assert len(last) == 1, lines
        assert len({line[:3] for line in lines}) == 1, lines
        code = lines[0][:3]
        if self.world.over:
            self._reconnect()
        else:
            assert code not in ENDING
        return code

    def _reconnect(self) -> None:
        assert self.world.wire.closed
        self.world.connect()
        self._fresh()
        assert [line[:3] for line in self.world.said()] == [b"220"]

    # -- what a client says ---------------------------------------------------------------------------------------

    @initialize()
    def like_most(self) -> None:
        """Begin as most sessions do, so that the deep states are reached often."""
        self.ehlo("EHLO client.example", 0)
        self.starttls(0)
        self.ehlo("EHLO client.example", 0)
        self.log_in("secret", 0)

    @rule(
        line=st.sampled_from(["EHLO client.example", "ehlo x", "EHLO", "EHLO two words", "HELO x"]),
        cut=st.integers(0, 30),
    )
    def ehlo(self, line: str, cut: int) -> None:
        """Greet; a good one ends any transaction."""
        good = line in ("EHLO client.example", "ehlo x", "HELO x")
        idle = self.world.session._idle
        code = self.ask(line.encode(), cut)
        if code == b"421":  # it passes the time like NOOP, and too much of that ends a session
            assert idle >= SETTINGS.idle_commands
            return
        assert code == (b"250" if good else b"501")
        if good:
            self.greeted = True
            self._reset()

    @rule(cut=st.integers(0, 10))
    def starttls(self, cut: int) -> None:
        """Ask for TLS; nothing said in clear counts afterwards."""
        inside = self.tls
        code = self.ask(b"STARTTLS", cut)
        if inside:
            assert code == b"503"
            return
        assert code == b"220"
        self.tls = True
        self._reset()

    @rule(password=st.sampled_from(["secret", "wrong", ""]), cut=st.integers(0, 60))
    def log_in(self, password: str, cut: int) -> None:
        """AUTH PLAIN with an initial response."""
        impossible = not self.tls or self.known or self.sender is not None
        code = self.ask(b"AUTH PLAIN " + base64.b64encode(f"\0alice\0{password}".encode()), cut)
        if impossible:
            assert code in (b"538", b"503"), code
        elif code == b"235":
            assert password == "secret"
            self.known = True
        else:
            assert code in (b"535", b"503", b"421"), code

    @rule(answers=st.lists(junk, min_size=1, max_size=2), cancel=st.booleans())
    def log_in_badly(self, answers: list[bytes], cancel: bool) -> None:
        """AUTH LOGIN with any answers, or given up midway; the session stays in step."""
        code = self.ask(b"AUTH LOGIN")
        for answer in answers:
            if code != b"334":
                break
            code = self.ask(b"*" if cancel else answer)
        if code == b"334":
            code = self.ask(b"*")
        assert code[:1] in (b"4", b"5"), code

    @rule(path=st.sampled_from(sorted(SENDERS)), cut=st.integers(0, 30))
    def mail(self, path: str, cut: int) -> None:
        """Begin a transaction: only inside TLS, known, and not inside another one."""
        was_open = self.sender is not None
        code = self.ask(f"MAIL FROM:{path}".encode(), cut)
        if code == b"250":
            assert self.tls
            assert self.known
            assert self.greeted
            assert not was_open
            assert SENDERS[path]
            self.sender, self.recipients = path.strip("<>"), []
        else:
            assert code[:1] in (b"4", b"5")

    @rule(path=st.sampled_from(sorted(RECIPIENTS)), cut=st.integers(0, 30))
    def rcpt(self, path: str, cut: int) -> None:
        """Name a recipient; without a transaction none is taken."""
        code = self.ask(f"RCPT TO:{path}".encode(), cut)
        if self.sender is None or not RECIPIENTS[path]:
            assert code[:1] == b"5", code
            return
        address = path.strip("<>")
        full = len(self.recipients) >= SETTINGS.recipients and address not in self.recipients
        assert code == (b"452" if full else b"250")
        if code == b"250" and address not in self.recipients:
            self.recipients.append(address)

    @rule(
        author=st.sampled_from(sorted(AUTHORS)),
        named=st.sampled_from([*BODIES, *BAD_BODIES]),
        cut=st.integers(0, 10_000),
    )
    def data(self, author: str, named: str, cut: int) -> None:
        """Send a message: 250 exactly when it was stored, for exactly the recipients that were accepted."""
        sender, recipients = self.sender, self.recipients
        body = (BODIES | BAD_BODIES)[named]
        before = len(self.world.stored)
        code = self.ask(b"DATA")
        if code != b"354":
            assert sender is None or not recipients
            return
        assert recipients
        self.counter += 1
        mark = f"mark-{self.counter}."
        header = f"From: {author}\r\n" if author else ""
        stuffed = f"{header}Subject: {mark}\r\n\r\n{body}\r\n".replace("\r\n.", "\r\n..")
        code = self._message(stuffed.encode(), cut)
        self._reset()
        new = self.world.stored[before:]
        assert (code == b"250") == (len(new) == 1), (code, new)
        assert len(new) <= 1
        if code == b"250":
            assert AUTHORS[author]
            assert named in BODIES
            envelope, mail = new[0]
            assert envelope.sender == sender
            assert [each.address for each in envelope.recipients] == recipients
            assert mark.encode() in mail
            assert mail.endswith(f"\r\n\r\n{body}\r\n".encode())

    def _message(self, octets: bytes, cut: int) -> bytes:
        whole = octets + b".\r\n"
        at = cut % len(whole)
        for piece in (whole[:at], whole[at:]):
            if piece:
                self.world.send(piece)
        return self._one_reply()

    @rule(line=st.sampled_from(["RSET", "rset", "RSET now", "NOOP", "NOOP x", "VRFY x", "EXPN x", "HELP"]))
    def small(self, line: str) -> None:
        """RSET ends a transaction, the others change nothing."""
        code = self.ask(line.encode())
        if line.upper() == "RSET" and code == b"250":
            self._reset()

    @rule(line=junk, end=st.sampled_from([b"\r\n", b"\n"]))
    def nonsense(self, line: bytes, end: bytes) -> None:
        """Whatever a line holds, it has one reply; nothing is believed of it."""
        verb = line.split(b" ")[0].strip().upper()
        if verb.decode("ascii", "replace") in type(self.world.session).COMMANDS:
            return
        assert self.ask(line, 0, end)[:1] in (b"5", b"4")

    @precondition(lambda self: self.sender is not None)
    @rule(rest=st.sampled_from([b"RSET\r\n", b"From: a@shop.example\r\n\r\n.\r\n", b"\r\n.\r\n"]))
    def talks_on_after_data(self, rest: bytes) -> None:
        """Send octets along with DATA: they are neither content nor command, and the session ends."""
        before = len(self.world.stored)
        self.world.send(b"DATA\r\n" + rest)
        assert self._one_reply()[:1] == b"5"
        assert len(self.world.stored) == before
        assert not self.tls

    @precondition(lambda self: not self.tls)
    @rule()
    def talks_on_after_starttls(self) -> None:
        """Send commands in clear along with STARTTLS: they are not said inside TLS."""
        self.world.send(b"STARTTLS\r\nEHLO x\r\nMAIL FROM:<a@shop.example>\r\n")
        assert self._one_reply() == b"503"

    @rule(
        lines=st.lists(
            st.sampled_from([b"NOOP", b"RSET", b"VRFY x", b"nonsense", b"MAIL FROM:<a@shop.example>"]),
            min_size=2,
            max_size=6,
        )
    )
    def pipelined(self, lines: list[bytes]) -> None:
        """Many commands in one segment: as many replies, and the transaction is what the last ones made it."""
        self.world.send(b"".join(line + b"\r\n" for line in [*lines, b"RSET"]))
        said = [line for line in self.world.said() if line[3:4] == b" "]
        if self.world.over:
            assert said[-1][:3] == b"421"
            self._reconnect()
            return
        assert len(said) == len(lines) + 1, said
        self._reset()

    @rule()
    def leave(self) -> None:
        """QUIT, and come again."""
        self.world.send(b"QUIT\r\n")
        assert [line[:3] for line in self.world.said()] == [b"221"]
        self._reconnect()

    @rule()
    def vanish(self) -> None:
        """Hang up in the middle, and come again: nothing of before is there."""
        self.world.session.connection_lost(None)
        self.world.connect()
        self._fresh()
        assert self.world.said()

    @invariant()
    def no_fault_of_ours(self) -> None:
        """No exception escapes, or is caught as a last resort."""
        assert self.world.faults.seen == []

    def teardown(self) -> None:
        """Hang up."""
        self.world.close()


Sessions.TestCase.settings = Sessions.settings_of_run
TestSessions = Sessions.TestCase
