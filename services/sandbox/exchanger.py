"""A mail exchanger whose recipients' names say what it does (`core/script.py`).

It reads SMTP by itself and not through the library that ingress is built on, so that one cannot hide a mistake of
the other, and so that it can break off wherever a script wants it to.
"""

import asyncio
import email.parser
import logging
import re
import ssl
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from services.sandbox.core.content import Content
from services.sandbox.core.script import Script, script_of
from services.sandbox.listener import Listener
from services.sandbox.maildir import Deferrals, Delivery, Mailbox
from services.sandbox.settings import SandboxSettings
from shared.mail import reply
from shared.mail.address import Fault, parse_address
from shared.mail.reply import Reply
from shared.runtime import clock
from shared.runtime.certificates import CERTIFICATE_FILE, KEY_FILE, ensure_certificates

log = logging.getLogger("sandbox")

LINE_LIMIT = 2048  # RFC 5321 §4.5.3.1.4 asks for 512, its extensions for more
CHUNK = 1 << 16
SETTING = "POSTLANE_SANDBOX_MX_LISTEN"
TLS_DIRECTORY = "mx-tls"
GREETING = Reply(220, "", "{host} ESMTP Postlane sandbox")
KEPT = Reply(250, "2.0.0", "Ok: kept as {file}")
STORE_FAILED = Reply(451, "4.3.0", "The message could not be stored")

_PATH = re.compile(r"(FROM|TO):[ \t]*<([^<>]*)>((?:[ \t]+[^ \t]+)*)[ \t]*", re.IGNORECASE)
_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"})
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})


class Exchanger:
    """Listens for mail; closed by its owner."""

    def __init__(self, settings: SandboxSettings) -> None:
        directory: Path = settings.directory
        directory.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.mailbox = Mailbox(directory)
        self.deferrals = Deferrals(directory)
        self.tls = _server_context(directory / TLS_DIRECTORY, settings.mx_name) if settings.starttls else None
        self._listener = Listener("SMTP", SETTING, self._converse)

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (0 takes a free one).

        Errors: `CannotListen`.
        """
        return await self._listener.start(host, port)

    async def close(self) -> None:
        """Stop listening, end the sessions, close the files."""
        await self._listener.close()
        self.mailbox.close()
        self.deferrals.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Session(self, reader, writer).run()
        except ConnectionAbortedError:
            writer.transport.abort()


def _server_context(directory: Path, name: str) -> ssl.SSLContext:
    ensure_certificates(directory, (name, "localhost", "127.0.0.1"), clock.now())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(directory / CERTIFICATE_FILE, directory / KEY_FILE)
    return context


class _Ended(Exception):
    """The session is over."""


class _Session:
    """One connection: its transaction is `sender` (None before MAIL) and `recipients`."""

    def __init__(self, exchanger: Exchanger, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._exchanger = exchanger
        self._settings = exchanger.settings
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._helo = ""
        self._reset()

    def _reset(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._parameters: list[str] = []
        self._smtputf8 = False

    async def run(self) -> None:
        """Hold the conversation to its end."""
        await self._say(GREETING.with_(host=self._settings.mx_name))
        try:
            while True:
                line = await self._line()
                verb, _, rest = line.partition(" ")
                await self._obey(verb.upper(), rest.strip())
        except _Ended:
            return
        except TimeoutError:
            await self._say(reply.TIMED_OUT)

    async def _obey(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO" | "HELO":
                self._reset()
                self._helo = rest
                await self._say_lines(self._capabilities() if verb == "EHLO" else [self._settings.mx_name])
            case "MAIL":
                await self._say(self._mail(rest))
            case "RCPT":
                await self._say(await self._rcpt(rest))
            case "DATA":
                await self._data()
            case "RSET":
                self._reset()
                await self._say(reply.OK)
            case "NOOP":
                await self._say(reply.OK)
            case "VRFY":
                await self._say(reply.CANNOT_VERIFY)
            case "STARTTLS":
                await self._start_tls()
            case "QUIT":
                await self._say(reply.CLOSING)
                raise _Ended
            case _:
                await self._say(reply.BAD_SYNTAX)

    def _capabilities(self) -> list[str]:
        size = f"SIZE {self._settings.size_limit_bytes}"
        offered = [self._settings.mx_name, "PIPELINING", size, "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"]
        if self._exchanger.tls is not None and not self._over_tls:
            offered.append("STARTTLS")
        return offered

    @property
    def _over_tls(self) -> bool:
        return self._writer.get_extra_info("ssl_object") is not None

    def _mail(self, rest: str) -> Reply:
        parsed = _path(rest, "FROM", _MAIL_PARAMETERS)
        if not self._helo:
            return reply.BAD_SEQUENCE.with_(advice="send EHLO first")
        if self._sender is not None:
            return reply.BAD_SEQUENCE.with_(advice="a transaction is under way")
        if isinstance(parsed, Reply):
            return parsed
        address, parameters = parsed
        smtputf8 = "SMTPUTF8" in (p.upper() for p in parameters)
        if address and isinstance(fault := parse_address(address), Fault):
            return reply.BAD_SENDER_SYNTAX.with_(fault=fault.reason)
        if not address.isascii() and not smtputf8:
            return reply.NEEDS_SMTPUTF8  # RFC 6531 §3.5
        size = next((p[5:] for p in parameters if p.upper().startswith("SIZE=")), "0")
        if not size.isdecimal():
            return reply.BAD_ARGUMENTS.with_(syntax="SIZE=<octets>")
        if int(size) > self._settings.size_limit_bytes:  # RFC 1870 §6.1
            return reply.TOO_LARGE.with_(limit=str(self._settings.size_limit_bytes))
        self._sender, self._smtputf8 = address, smtputf8
        self._parameters.append(" ".join(parameters))
        return reply.SENDER_OK

    async def _rcpt(self, rest: str) -> Reply:
        if self._sender is None:
            return reply.BAD_SEQUENCE.with_(advice="send MAIL first")
        parsed = _path(rest, "TO", _RCPT_PARAMETERS)
        if isinstance(parsed, Reply):
            return parsed
        address, parameters = parsed
        if isinstance(fault := parse_address(address), Fault):
            return reply.BAD_RECIPIENT_SYNTAX.with_(fault=fault.reason)
        if not address.isascii() and not self._smtputf8:
            return reply.NEEDS_SMTPUTF8
        script = script_of(address)
        if script.act == "bounce" and script.reply is not None:
            return script.reply
        if script.act == "greylist" and script.reply is not None:
            key = f"greylist {self._sender} {address}"
            if await asyncio.to_thread(self._exchanger.deferrals.due, key, script.times):
                return script.reply
        self._recipients.append(address)
        self._parameters.append(" ".join(parameters))
        return reply.RECIPIENT_OK

    async def _data(self) -> None:
        if not self._recipients:
            await self._say(
                reply.NO_VALID_RECIPIENTS if self._sender is not None else reply.BAD_SEQUENCE.with_(advice="send MAIL")
            )
            return
        await self._say(reply.SEND_DATA)
        content = await self._content()
        if content is None:
            await self._say(reply.TOO_LARGE.with_(limit=str(self._settings.size_limit_bytes)))
        else:
            await self._say(await self._decide(content))
        self._reset()

    async def _decide(self, content: bytes) -> Reply:
        """Follow the scripts of the accepted recipients; where they differ, the harshest wins for all (one reply)."""
        scripts = {recipient: script_of(recipient) for recipient in self._recipients}
        message_id = _message_id(content)
        if "drop" in _acts(scripts.values()):
            raise ConnectionAbortedError
        for script in scripts.values():
            if script.act == "reject-data" and script.reply is not None:
                return script.reply
        deferred: Reply | None = None
        for recipient, script in scripts.items():
            key = f"defer {recipient} {message_id or sha256(content).hexdigest()}"
            if script.act == "defer" and await asyncio.to_thread(self._exchanger.deferrals.due, key, script.times):
                deferred = deferred or script.reply
        if deferred is not None:
            return deferred
        try:
            delivery = await asyncio.to_thread(self._exchanger.mailbox.keep, content, self._delivery(message_id))
        except OSError as fault:
            log.error("a message could not be stored: %s", fault)
            return STORE_FAILED
        log.info("kept a message", extra={"message_id": message_id, "recipients": delivery.recipients})
        if "drop-stored" in _acts(scripts.values()):
            raise ConnectionAbortedError
        await asyncio.sleep(max(script.seconds for script in scripts.values()))
        return KEPT.with_(file=delivery.file)

    def _delivery(self, message_id: str) -> Delivery:
        peer = self._writer.get_extra_info("peername")
        secured: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        cipher = secured.cipher() if secured is not None else None
        return Delivery(
            at=clock.now(),
            file="",
            sender=self._sender or "",
            recipients=tuple(self._recipients),
            size=0,
            sha256="",
            message_id=message_id,
            client=str(peer[0]) if peer else "",
            helo=self._helo,
            tls=f"{secured.version()} {cipher[0]}" if secured is not None and cipher is not None else "",
            parameters=tuple(self._parameters),
        )

    async def _start_tls(self) -> None:
        if self._exchanger.tls is None:
            await self._say(reply.NOT_IMPLEMENTED.with_(command="STARTTLS"))
            return
        if self._over_tls:
            await self._say(reply.BAD_SEQUENCE.with_(advice="TLS is active"))
            return
        if self._buffer:  # RFC 3207 §4.2: nothing sent in clear may be taken for something sent under TLS
            await self._say(reply.BAD_SEQUENCE.with_(advice="nothing may follow STARTTLS"))
            raise _Ended
        await self._say(reply.START_TLS)
        try:
            async with asyncio.timeout(self._settings.idle_seconds):
                await self._writer.start_tls(self._exchanger.tls)
        except ssl.SSLError as fault:
            log.info("no TLS with a client: %s", fault)
            raise _Ended from fault
        self._reset()
        self._helo = ""

    async def _line(self) -> str:
        """Return the next command line without its CRLF."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0 and len(self._buffer) <= LINE_LIMIT:
                await self._more()
                continue
            if end < 0 or end > LINE_LIMIT:
                await self._say(reply.LINE_TOO_LONG)
                raise _Ended
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            if not line.endswith(b"\r\n"):
                await self._say(reply.BARE_LINE_FEED)
                continue
            try:
                return line[:-2].decode()
            except UnicodeDecodeError:
                await self._say(reply.BAD_SYNTAX)

    async def _content(self) -> bytes | None:
        """Return the octets of a message; None if it is over the limit (it is read to its end all the same)."""
        content = Content(self._settings.size_limit_bytes)
        behind = content.feed(bytes(self._buffer))
        while behind is None:
            self._buffer.clear()
            await self._more()
            behind = content.feed(bytes(self._buffer))
        self._buffer[:] = behind
        return content.whole()

    async def _more(self) -> None:
        async with asyncio.timeout(self._settings.idle_seconds):
            chunk = await self._reader.read(CHUNK)
        if not chunk:
            raise _Ended
        self._buffer += chunk

    async def _say(self, answer: Reply) -> None:
        self._writer.write(f"{answer}\r\n".encode("ascii"))
        await self._writer.drain()

    async def _say_lines(self, lines: list[str]) -> None:
        text = "".join(f"250{'-' if i < len(lines) - 1 else ' '}{line}\r\n" for i, line in enumerate(lines))
        self._writer.write(text.encode("ascii"))
        await self._writer.drain()


def _path(text: str, word: str, known: frozenset[str]) -> tuple[str, list[str]] | Reply:
    """Read `FROM:<address> parameters` or `TO:…`; the reply says what is wrong."""
    match = _PATH.fullmatch(text)
    if match is None or match[1].upper() != word:
        return reply.BAD_ARGUMENTS.with_(syntax=f"{'MAIL' if word == 'FROM' else 'RCPT'} {word}:<address>")
    parameters = match[3].split()
    for parameter in parameters:
        if parameter.partition("=")[0].upper() not in known:
            return reply.PARAMETER_UNKNOWN.with_(parameter=parameter)
    return match[2], parameters


def _acts(scripts: Iterable[Script]) -> set[str]:
    return {script.act for script in scripts}


def _message_id(content: bytes) -> str:
    head = content.partition(b"\r\n\r\n")[0]
    return str(email.parser.BytesHeaderParser().parsebytes(head).get("Message-ID", "")).strip()
