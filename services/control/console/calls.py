"""What the console asks of the API, in this process and as the signed-in key: it may do nothing the key may not."""

from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from services.control.api.tokens import GRANT
from shared.contract.errors import PostlaneError


class Declined(PostlaneError):
    """The API said no."""

    def __init__(self, status: int, messages: tuple[str, ...], code: str = "") -> None:
        super().__init__("; ".join(messages))
        self.status = status
        self.messages = messages
        self.code = code
        """The first error's code."""


def path(*segments: str) -> str:
    """Return a path of segments, each of which stays one whatever it holds.

    Errors: `Declined` (404) for dots alone: they would lead up, to something else than the page is about.
    """
    if any(segment in ("", ".", "..") for segment in segments):
        raise Declined(404, ("there is nothing of that name",))
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


class Calls:
    """Calls of the API for one request of a browser, whose address and name they carry. No connection is held."""

    def __init__(self, application: Any, address: str, agent: str, token: str = "") -> None:
        transport = httpx.ASGITransport(app=application, client=(address, 0))
        headers = {b"User-Agent": agent.encode("latin-1")}  # as it came: a name need not be ASCII
        if token:
            headers[b"Authorization"] = f"Bearer {token}".encode()
        self._client = httpx.AsyncClient(transport=transport, base_url="http://console", headers=headers)

    async def get(self, where: str, **query: str) -> Any:
        """Read.

        Errors: `Declined`.
        """
        return _answer(await self._client.get(where, params={name: value for name, value in query.items() if value}))

    async def versioned(self, where: str) -> tuple[Any, str]:
        """Read something with its ETag, to change it only if it is still so.

        Errors: `Declined`.
        """
        response = await self._client.get(where)
        return _answer(response), response.headers.get("etag", "")

    async def act(self, method: str, where: str, body: Any = None, *, etag: str = "", **query: str) -> Any:
        """Change something; with an ETag, only what is still as it was read.

        Errors: `Declined`.
        """
        options: dict[str, Any] = {} if body is None else {"json": body}
        if etag:
            options["headers"] = {"If-Match": etag}
        return _answer(await self._client.request(method, where, params=query, **options))

    async def token(self, key: str) -> dict[str, Any]:
        """Exchange an API key for a token.

        Errors: `Declined`.
        """
        form = {"grant_type": GRANT, "apikey": key}
        answer: dict[str, Any] = _answer(await self._client.post("/identity/token", data=form))
        return answer


def _answer(response: httpx.Response) -> Any:
    said = msgspec.json.decode(response.content) if response.content else None
    if response.status_code < httpx.codes.BAD_REQUEST:
        return said
    listed = said.get("errors", ()) if isinstance(said, dict) else ()
    messages = tuple(each["message"] for each in listed) or ("that was refused",)
    raise Declined(response.status_code, messages, listed[0]["code"] if listed else "")
