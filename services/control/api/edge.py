"""The outermost layer of the API: paths, correlation, content types and sizes, before any route is looked for."""

import re
import uuid
from typing import Any
from urllib.parse import unquote

import msgspec

from services.control.api.errors import body, too_large
from services.control.api.methods import Methods
from services.control.core.fault import Fault

IBM_PREFIX = "/event-notifications"
TOKEN_PATH = "/identity/token"  # noqa: S105  # a path
CORRELATION = (b"x-correlation-id", b"transaction-id")
_CORRELATION = re.compile(rb"[a-zA-Z0-9 ,\-_]{1,1024}")
_NOT_IN_ANY_ID = "\ufffd"


class Edge:
    """Wraps the application; pure ASGI."""

    def __init__(self, application: Any, request_bytes: int, methods: Methods) -> None:
        self._application = application
        self._limit = request_bytes
        self._methods = methods

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        headers = dict(scope["headers"])
        trace = str(uuid.uuid4())
        scope["path"] = _path(scope)
        scope.pop("raw_path", None)
        scope.setdefault("state", {})["trace"] = trace
        correlation = next((headers[n] for n in CORRELATION if _CORRELATION.fullmatch(headers.get(n, b""))), None)
        echoed = correlation or trace.encode()

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                head = message.get("headers", [])
                if message["status"] == 405 or (scope["method"] == "OPTIONS" and message["status"] == 204):
                    allowed = self._methods.of(scope["path"]).encode()  # RFC 9110 §15.5.6
                    head = [*(each for each in head if each[0].lower() != b"allow"), (b"allow", allowed)]
                message["headers"] = [
                    *head, (b"x-correlation-id", echoed), (b"x-request-id", trace.encode()),
                    (b"cache-control", b"no-store"),
                ]  # fmt: skip
            await send(message)

        refusal = self._refusal(scope["method"], scope["path"], headers)
        if refusal is not None:
            status, fault = refusal
            await _refuse(sending, trace, status, fault)
            return
        await self._application(scope, receive, sending)

    def _refusal(self, method: str, path: str, headers: dict[bytes, bytes]) -> tuple[int, Fault] | None:
        length = headers.get(b"content-length", b"0")
        has_body = b"transfer-encoding" in headers or length not in (b"", b"0")
        if not has_body or method in ("GET", "HEAD", "DELETE"):
            return None
        if length.isdigit() and int(length) > self._limit:
            return 413, too_large(self._limit)
        wanted = "application/x-www-form-urlencoded" if path == TOKEN_PATH else "application/json"
        if headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower() != wanted:
            return 415, Fault("unsupported_media_type", f"the body must be {wanted}", "Content-Type")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            return 415, Fault("unsupported_encoding", "send the body without Content-Encoding", "Content-Encoding")
        return None


def _path(scope: Any) -> str:
    """Split the raw path before decoding it, so that an encoded slash stays inside its segment (and finds nothing)."""
    raw = scope.get("raw_path") or scope["path"].encode()
    segments = [unquote(part.decode("latin-1")) for part in raw.partition(b"?")[0].split(b"/")]
    path = "/".join(segment.replace("/", _NOT_IN_ANY_ID) for segment in segments)
    if path.startswith(f"{IBM_PREFIX}/"):
        path = path.removeprefix(IBM_PREFIX)
    return path


async def _refuse(send: Any, trace: str, status: int, fault: Fault) -> None:
    content = msgspec.json.encode(body(trace, status, (fault,)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
