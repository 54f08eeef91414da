"""A TCP port and the conversations on it."""

import asyncio
from collections.abc import Awaitable, Callable

from shared.contract.errors import PostlaneError

Conversation = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class CannotListen(PostlaneError, OSError):
    """An address the sandbox was told to listen on is taken or not ours."""


class Listener:
    """Listens, and ends every conversation when it is closed by its owner."""

    def __init__(self, what: str, setting: str, converse: Conversation) -> None:
        self._what = what
        self._setting = setting
        self._converse = converse
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (0 takes a free one).

        Errors: `CannotListen` names the port and the setting.
        """
        try:
            self._server = await asyncio.start_server(self._accept, host, port)
        except OSError as fault:
            raise self.refused(host, port, fault) from fault
        return int(self._server.sockets[0].getsockname()[1])

    def refused(self, host: str, port: int, fault: OSError) -> CannotListen:
        """Say which port is not to be had and what to change."""
        return CannotListen(
            f"cannot listen on {host}:{port} for {self._what} ({fault.strerror}); choose another by {self._setting}"
        )

    async def close(self) -> None:
        """Stop listening and end the conversations."""
        if self._server is None:
            return
        self._server.close()
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine runs in a task
        self._conversations.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has gone
        except asyncio.CancelledError:
            pass  # the sandbox is closing; the server must not see it as a fault
        finally:
            self._conversations.discard(task)
            writer.close()
