"""The health endpoint of a room: /healthz, /readyz and /metrics over a minimal HTTP, on its own port."""

import asyncio
import json
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from shared.runtime.settings import Settings

REQUEST_LIMIT_BYTES = 8192
REQUEST_SECONDS = 5


class HealthSettings(Settings, frozen=True, kw_only=True):
    """Where a room answers for its health. Names: `POSTLANE_HEALTH_…`, the same for every room."""

    listen: Annotated[
        str, Meta(description="host:port, or unix: and a path, of /healthz, /readyz and /metrics; empty: none")
    ] = ""
    log_level: Annotated[
        str,
        Meta(
            description="least level logged: DEBUG, INFO, WARNING or ERROR",
            pattern="^(?i:debug|info|warning|error|critical)$",
        ),
    ] = "INFO"


class Conditions:
    """What must hold for a room to be ready; each condition has a name and, while it fails, a reason."""

    def __init__(self) -> None:
        self._failing: dict[str, str] = {"start": "the room is starting"}
        self.remarks: dict[str, str] = {}
        """What the page tells besides; does not decide readiness."""

    def set(self, what: str, holds: bool, why: str = "") -> bool:
        """Record a condition; return whether it changed."""
        if holds:
            return self._failing.pop(what, None) is not None
        changed = self._failing.get(what) != why
        self._failing[what] = why
        return changed

    @property
    def failing(self) -> Mapping[str, str]:
        """The conditions that do not hold, with their reasons."""
        return self._failing


class HealthServer:
    """Answers GET on a socket; closed by its owner."""

    def __init__(self, room: str, conditions: Conditions, metrics: CollectorRegistry) -> None:
        self._room = room
        self._conditions = conditions
        self._metrics = metrics
        self._server: asyncio.Server | None = None

    async def start(self, listen: str) -> None:
        """Listen on host:port, or on `unix:` and the path of a socket."""
        if listen.startswith("unix:"):
            path = listen.removeprefix("unix:")
            self._server = await asyncio.start_unix_server(self._answer, path, limit=REQUEST_LIMIT_BYTES)
            return
        host, _, port = listen.rpartition(":")
        self._server = await asyncio.start_server(
            self._answer, host or "127.0.0.1", int(port), limit=REQUEST_LIMIT_BYTES
        )

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
                path = request.split(b" ", 2)[1].decode("latin-1")
                status, kind, body = self._page(path)
                head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            pass  # a prober that cannot speak HTTP gets no answer
        finally:
            writer.close()

    def _page(self, path: str) -> tuple[str, str, bytes]:
        if path == "/healthz":
            return "200 OK", "application/json", json.dumps({"room": self._room, "alive": True}).encode()
        if path == "/readyz":
            failing = dict(self._conditions.failing)
            page = {"room": self._room, "ready": not failing, "waiting_for": failing, **self._conditions.remarks}
            body = json.dumps(page).encode()
            return ("503 Service Unavailable" if failing else "200 OK"), "application/json", body
        if path == "/metrics":
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", generate_latest(self._metrics)
        return "404 Not Found", "application/json", b'{"error": "try /healthz, /readyz or /metrics"}'
