"""The SMTP server under the submission service: aiosmtpd's protocol with a loop of its own (RFC 5321).

Kept of aiosmtpd: the protocol class and its place in asyncio, Session, Envelope and the naming of commands. Replaced:
reading (bounded, strict CRLF), pipelined replies, timeouts, TLS, and what happens on a fault: the transaction is
always reset, and the client is never shown an exception. The commands themselves are in `submission`.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NoReturn, cast

import msgspec
from aiosmtpd import smtp

from services.ingress import log_lines
from services.ingress.core.access import IpAddress, peer_address
from services.ingress.core.refusal import Refusal
from services.ingress.desk import Desk
from services.ingress.inbound import Ended, Inbound, LineTooLong, TimedOut
from services.ingress.refusals import Party
from services.ingress.session import Endpoint, SubmissionSession, Transaction
from shared.mail import reply
from shared.mail.reply import Reply

PROOF_WAIT_SECONDS = 2.0
AUTH_PREFIX_BYTES = 32
"""Room for `AUTH PLAIN ` and CRLF around a base64 string of full length."""
RECIPIENTS_TOLD = 100
"""Recipients that stand in the event of a refusal; a message may have thousands, and be refused again and again."""
COMMANDS_IN_A_ROW = 50
"""Pipelined commands after which others have their turn: twenty thousand may wait, and take a seventh of a second."""
WEB_VERBS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE", "PRI"})
IDLE_VERBS = frozenset({"NOOP", "RSET", "VRFY", "HELP", "EXPN", "EHLO", "HELO"})


_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_PHASES = frozenset({"connect", "tls", "auth", "mail", "rcpt", "data"})
"""Phases told apart in metrics; every other command is one."""


class Closing(Exception):
    """The session ends here; whatever had to be said has been said."""


class Conversation(smtp.SMTP):
    """One connection: reads commands in step, answers in order, ends in good order."""

    COMMANDS: ClassVar[dict[str, Callable[[Any, str], Awaitable[None]]]] = {}

    def __init__(
        self,
        desk: Desk,
        endpoint: Endpoint,
        loop: asyncio.AbstractEventLoop,
        client: IpAddress | None = None,
        counted: bool = False,
    ) -> None:
        """Prepare for a connection; `client` is who it is from if the socket does not say, `counted` if it counts."""
        # SMTP.__init__ inspects every method for every connection, a fifth of a session's time: not called. Its
        # own base is, with a reader that stays empty, for the sake of what asyncio expects of a protocol.
        asyncio.StreamReaderProtocol.__init__(self, asyncio.StreamReader(limit=2, loop=loop), loop=loop)
        self.loop = loop
        self.desk = desk
        self.settings = desk.settings
        self.hostname = desk.settings.host_name
        self.transport: asyncio.Transport | None = None
        self.session: SubmissionSession = SubmissionSession(loop, endpoint)
        self.envelope: Transaction = Transaction()
        self.inbound = Inbound(loop)
        self._handler_coroutine: asyncio.Task[None] | None = None
        self._replies = bytearray()
        self._writable: asyncio.Event | None = None
        self._errors = 0
        self._idle = 0
        self._failed_logins = 0
        self._excuses = 0
        """Commands that may have been sent along with a MAIL before that was refused (RFC 2920 §3.1): no errors."""
        self._said: tuple[Transaction, str, Refusal, str] | None = None
        """The last refusal: when, in which phase, and its reference."""
        self._counted = counted
        self.session.address = client
        self._reserved = 0
        self._began = loop.time()
        self._phase = "connect"

    @property
    def begun(self) -> bool:
        """Whether the connection was made; whoever counted it before need not mind any more."""
        return self._handler_coroutine is not None

    # -- asyncio's side ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve a new connection."""
        self.transport = cast(asyncio.Transport, transport)
        self.inbound.transport = self.transport
        peer = transport.get_extra_info("peername")
        self.session.peer = peer
        if self.session.address is None:
            self.session.address = peer_address(peer[0]) if isinstance(peer, tuple) else None
        self._note_tls()
        self._handler_coroutine = self.desk.tasks.create_task(self._handle_client(), name=f"session of {peer}")

    def data_received(self, data: bytes) -> None:
        """Take octets from the socket."""
        self.inbound.feed(data)

    def eof_received(self) -> bool:
        """Note that the client sends no more; what it has sent whole is still answered."""
        self.inbound.end()
        return not self.session.tls  # an SSL transport cannot stay half open

    def connection_lost(self, error: Exception | None) -> None:
        """Note that the connection is gone. The session's task is not cancelled: a commit under way must end."""
        self.inbound.end()
        self.resume_writing()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None

    def pause_writing(self) -> None:
        """Note that the client does not read fast enough."""
        self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Note that the client reads again, or is gone."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def wake(self) -> None:
        """Let the session look whether the process is told to stop."""
        self.inbound.wake()

    def abort(self) -> None:
        """End the connection at once; the client hears nothing."""
        if self.transport is not None:
            self.transport.abort()

    # -- the conversation -------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        desk = self.desk
        desk.sessions.add(self)
        desk.metrics.sessions.inc()
        try:
            await self._converse()
        except (Ended, Closing):
            pass
        except TimedOut:
            self._refuse(Refusal(reply.TIMED_OUT, f"nothing came in time in phase {self._phase}"))
        except Exception:  # one session's fault must not end the others
            desk.log.exception("a session failed", extra={"client": self.session.client_address})
            # RFC 5321 §3.8: a server that closes by itself says 421
            self._refuse(Refusal(reply.SESSION_FAILED, "an internal fault ended the session"))
        finally:
            desk.sessions.discard(self)
            desk.metrics.sessions.dec()
            if self._counted and self.session.address is not None:
                desk.connections.leave(self.session.address, stranger=self.session.login is None)
            self._write_out()
            if self.transport is not None:
                if self.transport.get_write_buffer_size():
                    # A client that never reads must not keep the socket.
                    self.loop.call_later(self.settings.reply_seconds, self.transport.abort)
                self.transport.close()
            log_lines.session_ended(self.session, self.loop.time() - self._began, self._phase, self.inbound.total)
        await desk.sightings.left(self.session, self._phase)

    async def _converse(self) -> None:
        await self._admit()
        self._say(reply.GREETING.with_(host=self.hostname))
        in_a_row = 0
        while True:
            line = self.inbound.line(self.settings.auth_line_bytes + AUTH_PREFIX_BYTES)
            if line is None:
                self._make_way()
                await self._flush()
                self._phase = "command"
                await self.inbound.more(self._patience())
                in_a_row = 0
            else:
                await self._obey(line)
                in_a_row += 1
                if in_a_row % COMMANDS_IN_A_ROW == 0:
                    await self._flush()
                    await asyncio.sleep(0)

    def _make_way(self) -> None:
        """End the session if the process is told to stop, in a transaction once the time for those is over."""
        if self.desk.over.is_set() or (self.desk.draining.is_set() and self.envelope.sender is None):
            self._end(Refusal(reply.SHUTTING_DOWN.with_(host=self.hostname), "ingress is shutting down"))

    def _patience(self) -> float:
        now = self.loop.time()
        deadline = self._began + self.settings.session_seconds
        if self.session.login is None:
            deadline = self._began + self.settings.login_seconds
        return min(self.settings.command_seconds, deadline - now)

    async def _admit(self) -> None:
        """Everything before the greeting: connection limits and readiness."""
        address = self.session.address
        if address is None:
            raise Closing
        if not self._counted:
            broken = self.desk.connections.enter(address)
            if broken:
                self._end(Refusal(reply.TOO_MANY_CONNECTIONS, broken))
            self._counted = True
        if not await self.desk.proof.awaited(PROOF_WAIT_SECONDS):
            self._end(Refusal(reply.NOT_READY.with_(host=self.hostname), "the bus has not proven to store safely"))

    async def _obey(self, line: bytes | LineTooLong) -> None:
        """Read one command line and do it; every fault of ours ends in 451 and a clean transaction."""
        if isinstance(line, LineTooLong):
            self._refuse(Refusal(reply.LINE_TOO_LONG, "a command line was too long"))
            return
        if not line.endswith(b"\r\n"):
            if line.startswith(b"\x16\x03"):
                self._end(Refusal(reply.BAD_SYNTAX, "the client begins with TLS"))
            self._refuse(Refusal(reply.BARE_LINE_FEED, "a command line ended in a bare LF"))
            return
        verb_octets, _, argument_octets = line[:-2].partition(b" ")
        verb = verb_octets.decode("ascii", "replace").upper()
        if len(line) > self.settings.command_bytes and verb != "AUTH":
            self._refuse(Refusal(reply.LINE_TOO_LONG, "a command line was too long"))
            return
        command = self.COMMANDS.get(verb)
        try:
            argument = argument_octets.decode()
        except UnicodeDecodeError:
            command = None
        if command is None or _CONTROL.search(argument_octets):
            self._not_a_command(verb)
            return
        if verb in IDLE_VERBS:
            self._idle += 1
            if self._idle > self.settings.idle_commands:
                self._end(Refusal(reply.TOO_MANY_ERRORS, "too many commands without a message"))
        self._phase = verb.lower()
        try:
            # RFC 5321 §4.1.1: white space may end a line
            await command(self, argument.rstrip(" "))
        except (Ended, Closing, TimedOut):
            raise
        except Exception:  # whatever it was, the client hears 451 and nothing of it
            self.desk.log.exception("a command failed", extra={"client": self.session.client_address, "command": verb})
            self.envelope = Transaction()
            self._refuse(Refusal(reply.INTERNAL_FAULT, f"an internal fault in {verb}"))

    def _not_a_command(self, verb: str) -> None:
        if verb in WEB_VERBS:
            self._end(Refusal(reply.NOT_A_WEB_SERVER, f"{verb} is a command of HTTP"))
        if verb == "PROXY":
            self._end(Refusal(reply.PROXY_REFUSED, "a PROXY header came from an address that is no balancer"))
        if verb == "BDAT":
            # Its octets would follow, and must not be read as commands (RFC 3030 §4.2); CHUNKING is not offered.
            self._end(Refusal(reply.NOT_IMPLEMENTED.with_(command=verb), "BDAT without CHUNKING being offered"))
        if "\x00" in verb or verb.startswith("\x16\x03"):
            self._end(Refusal(reply.BAD_SYNTAX, "the client does not speak SMTP"))
        self._refuse(Refusal(reply.BAD_SYNTAX, "the command is not known or has control characters"))

    # -- replies ----------------------------------------------------------------------------------------------------

    def _say(self, text: Reply) -> None:
        """Queue a reply; replies to pipelined commands leave in one write (RFC 2920 §3.2)."""
        self._replies += reply.wire(text)

    def _refuse(self, refusal: Refusal, *, excused: bool = False) -> None:
        """Answer with a refusal and its reference, publish why, and end a session with too many of them."""
        text, session = refusal.reply, self.session
        self._say(text.referring(self._record(refusal)))
        self.desk.metrics.refused.labels(self._phase if self._phase in _PHASES else "command", str(text.code)).inc()
        session.refused += 1
        if text.permanent and not excused:
            self._errors += 1
            if self._errors >= self.settings.errors and text.code != 521:
                self._errors = -1_000_000
                self._end(Refusal(reply.TOO_MANY_ERRORS, "too many refused commands in one session"))

    def _record(self, refusal: Refusal) -> str:
        """Publish and log a refusal; return its reference. What is refused again in a transaction keeps the first one.

        A list of 100,000 recipients is one event, not one for each that is too many.
        """
        session, envelope, phase = self.session, self.envelope, self._phase
        if self._said is not None and self._said[0] is envelope and self._said[1:3] == (phase, refusal):
            return self._said[3]
        party = Party(
            session.login.username if session.login else "",
            session.client_address,
            session.client_name,
            envelope.sender.address.written if envelope.sender and envelope.sender.address else "",
            tuple(each.address.written for each in envelope.recipients[:RECIPIENTS_TOLD]),
        )
        concerned = refusal
        if session.login is not None and not refusal.instance:  # its own people see what a client is told
            concerned = msgspec.structs.replace(refusal, instance=session.login.instance)
        reference, told = self.desk.refusals.record(concerned, phase, party)
        if told:
            log_lines.refused(session, concerned, reference, phase)
        self._said = (envelope, phase, refusal, reference)
        return reference

    def _wrong_arguments(self, syntax: str) -> None:
        self._refuse(Refusal(reply.BAD_ARGUMENTS.with_(syntax=syntax), "wrong arguments"))

    def _out_of_sequence(self, advice: str, *, excused: bool = False) -> None:
        self._refuse(Refusal(reply.BAD_SEQUENCE.with_(advice=advice), advice), excused=excused)

    def _end(self, refusal: Refusal) -> NoReturn:
        """Refuse and end the session."""
        self._refuse(refusal)
        raise Closing

    def _write_out(self) -> None:
        if self._replies and self.transport is not None:
            self.transport.write(bytes(self._replies))
        self._replies.clear()

    async def _flush(self) -> None:
        """Send what was said, and wait if the client does not read."""
        self._write_out()
        if self._writable is not None:
            try:
                async with asyncio.timeout(self.settings.reply_seconds):
                    await self._writable.wait()
            except TimeoutError:
                raise Closing from None

    async def _start_tls(self) -> None:
        # No await between the reply and start_tls, which stops reading at once: the client's hello belongs to TLS.
        self._phase = "tls"
        if self.transport is None:
            raise Ended
        self.inbound.clear()
        try:
            transport = await self.loop.start_tls(
                self.transport,
                self,
                self.desk.certificate.context,
                server_side=True,
                ssl_handshake_timeout=self.settings.handshake_seconds,
                ssl_shutdown_timeout=self.settings.handshake_seconds,
            )
        except (OSError, ssl.SSLError) as fault:
            self.desk.log.info("TLS handshake failed: %s", fault, extra={"client": self.session.client_address})
            self._phase = f"tls: {fault}"
            raise Closing from None
        if transport is None:
            raise Ended
        self.transport = transport
        self.inbound.transport = transport
        self._note_tls()
        self.session.greeted_in_clear = bool(self.session.extended_smtp)
        self.session.host_name = None
        self.session.extended_smtp = False
        self.envelope = Transaction()

    def _note_tls(self) -> None:
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        if tls is not None:
            cipher = tls.cipher()
            self.session.tls = f"{tls.version()} {cipher[0] if cipher else 'unknown'}"
