"""A web server for MTA-STS policies: real HTTPS on loopback, answering what a test tells it to."""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


def policy(mode: str = "enforce", *mx: str, max_age: int = 86400) -> bytes:
    """Return a policy document."""
    patterns = "".join(f"mx: {pattern}\r\n" for pattern in mx or ("mx.rcpt.test",))
    return f"version: STSv1\r\nmode: {mode}\r\n{patterns}max_age: {max_age}\r\n".encode()


class PolicyHost:
    """Serves `body` with `status` and `kind`; counts connections and keeps the requests it could read."""

    def __init__(self, tls: ssl.SSLContext, body: bytes = b"") -> None:
        self.tls = tls
        self.body = body
        self.status = "200 OK"
        self.kind = "text/plain"
        self.more = ""
        self.pause_seconds = 0.0
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(self.pause_seconds)
            head = f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\n{self.more}Connection: close\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
        writer.close()
