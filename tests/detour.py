"""A way to a port of loopback that can be blocked: then nothing comes through, and nobody is told."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from tests.patience import ended

CHUNK = 1 << 16


class Detour:
    """Forwards connections to a port. While it is blocked it neither reads nor writes nor closes: a network that drops.

    What was on the way arrives when it is opened again, even from a connection that its client has given up since.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections = 0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The way as a bus."""
        return f"nats://127.0.0.1:{self.port}"

    def block(self) -> None:
        """Let nothing through any more, new connections neither."""
        self._open.clear()

    def unblock(self) -> None:
        """Let everything through again."""
        self._open.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await ended(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._connected(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(reader, far_writer))
                ways.create_task(self._forward(far_reader, writer))
        except* OSError:
            pass

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while octets := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(octets)
                await writer.drain()
            await self._open.wait()
        finally:
            with contextlib.suppress(OSError):
                writer.close()
