"""A scripted mail exchanger: a real SMTP server on loopback that misbehaves exactly as a test tells it to."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from services.command.ports import free_port
from tests.patience import ended

Action = bytes | float | asyncio.Event | None | str
"""What to do: send these octets, wait so many seconds, for what the test does meanwhile, or for octets (`"hear"`), cut
the connection (None)."""
Script = dict[str, list[tuple[Action, ...]]]


class Received:
    """A message that was accepted."""

    def __init__(self, sender: str, recipients: list[str], data: bytes, tls: bool) -> None:
        self.sender = sender
        self.recipients = recipients
        self.data = data
        self.tls = tls


class Exchanger:
    """Listens on a port of loopback. `script` maps a verb (GREETING, EHLO, MAIL, RCPT, DATA, FINAL …) to the actions
    for its first, second … use; the last entry repeats. `by_recipient` decides RCPT by address.
    """  # noqa: D205

    def __init__(
        self, *, extensions: tuple[str, ...] = ("8BITMIME", "SMTPUTF8"), tls: ssl.SSLContext | None = None
    ) -> None:
        self.extensions = extensions
        self.tls = tls
        self.script: Script = {}
        self.by_recipient: dict[str, list[tuple[Action, ...]]] = {}
        self.on_final: Callable[[Received], None] | None = None
        self.received: list[Received] = []
        self.seen: list[Received] = []
        """Every message whose final dot came, accepted or not."""
        self.commands: list[bytes] = []
        self.connections = 0
        self.host = ""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.changed = asyncio.Event()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Listen; without a port on one that is the test's own on every address, so that others may have it there."""
        self._server = await asyncio.start_server(self._serve, host, port or free_port())
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self

    async def stop(self) -> None:
        """Close the listener and cut every session."""
        if self._server is not None:
            self._server.close()
        await ended(*self._tasks)

    async def __aenter__(self) -> Self:
        return self if self._server is not None else await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a condition on this exchanger holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def disturb(self, words: bytes | None) -> None:
        """Say something unasked on every open session, or cut them (None); returns when the client can have seen it."""
        for writer in list(self._writers):
            if words is None:
                writer.transport.abort()
            else:
                writer.write(words)
                await writer.drain()
        await asyncio.sleep(0.1)  # there is no sign of what a client has read

    def uses(self, verb: bytes) -> list[bytes]:
        """Return the commands with this verb, in order."""
        return [line for line in self.commands if line.split(b" ", 1)[0].upper() == verb]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        self.changed.set()
        try:
            await self._session(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            with contextlib.suppress(Exception):
                writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uses: dict[str, int] = {}
        secure = False
        sender, recipients = "", list[str]()
        if not await self._play(reader, writer, self._next("GREETING", b"220 mx.test ESMTP\r\n")):
            return
        while line := await reader.readline():
            command = line.rstrip(b"\r\n")
            self.commands.append(command)
            self.changed.set()
            verb = command.split(b" ", 1)[0].upper().decode("latin-1")
            uses[verb] = uses.get(verb, 0) + 1
            default = b"250 2.0.0 ok\r\n"
            if verb == "EHLO":
                offers = [*self.extensions, *(["STARTTLS"] if self.tls and not secure else [])]
                lines = ["mx.test", *offers]
                default = "".join(
                    f"250{' ' if n == len(lines) - 1 else '-'}{text}\r\n" for n, text in enumerate(lines)
                ).encode()
            elif verb == "STARTTLS" and self.tls is not None and "STARTTLS" not in self.script:
                writer.write(b"220 2.0.0 go\r\n")
                await writer.drain()
                await writer.start_tls(self.tls)
                secure = True
                continue
            elif verb == "DATA":
                default = b"354 go\r\n"
            elif verb == "QUIT":
                default = b"221 2.0.0 bye\r\n"
            actions = self._next(verb, default)
            if verb == "RCPT":
                address = command.decode("utf-8", "replace").partition("<")[2].rpartition(">")[0]
                if address in self.by_recipient:
                    actions = _pop(self.by_recipient[address])
            if not await self._play(reader, writer, actions):
                return
            first = next((a for a in actions if isinstance(a, bytes)), b"")
            if verb == "MAIL":
                sender, recipients = command.decode().partition("<")[2].partition(">")[0], []
            elif verb == "RCPT" and first[:2] == b"25":
                recipients.append(address)
            elif verb == "DATA" and first[:3] == b"354":
                data = bytearray()
                while (part := await reader.readline()) != b".\r\n":
                    if not part:
                        return
                    data += part[1:] if part.startswith(b".") else part
                message = Received(sender, recipients, bytes(data), secure)
                final = self._next("FINAL", b"250 2.0.0 stored\r\n")
                self.seen.append(message)
                if any(isinstance(a, bytes) and a.startswith(b"250") for a in final):
                    self.received.append(message)
                if self.on_final is not None:
                    self.on_final(message)
                self.changed.set()
                if not await self._play(reader, writer, final):
                    return
            elif verb == "QUIT":
                return

    def _next(self, verb: str, default: bytes) -> tuple[Action, ...]:
        return _pop(self.script[verb]) if self.script.get(verb) else (default,)

    async def _play(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, actions: tuple[Action, ...]
    ) -> bool:
        for action in actions:
            if action is None:
                writer.transport.abort()
                return False
            if action == "hear":
                await reader.read(1)
            elif isinstance(action, float):
                await asyncio.sleep(action)
            elif isinstance(action, asyncio.Event):
                await action.wait()
            elif isinstance(action, bytes):
                writer.write(action)
                await writer.drain()
        return True


def _pop(entries: list[tuple[Action, ...]]) -> tuple[Action, ...]:
    return entries.pop(0) if len(entries) > 1 else entries[0]
