"""Every request shows an API key or a token made from one; nothing but the token endpoint and health is open."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from services.control.caller import Caller
from shared.runtime.clock import now_ms

Connection = ASGIConnection[Any, Any, Any, Any]


async def authenticated(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard: recognise the caller, or 401."""
    if handler.opt.get("open"):
        return
    desk = connection.app.state.desk
    scheme, _, shown = connection.headers.get("authorization", "").partition(" ")
    shown = shown.strip()
    caller: Caller | None = None
    if scheme.lower() == "bearer" and shown:
        caller = desk.keys.recognise(shown)
        if caller is None and (key := desk.tokens.read(shown, now_ms() // 1000)):
            caller = desk.keys.living(key)
    if caller is None:
        desk.strangers.count(address_of(connection))
        raise NotAuthorizedException
    desk.limits.count(caller.key)
    desk.keys.used(caller, address_of(connection), connection.headers.get("user-agent", ""))
    connection.scope["state"]["caller"] = caller


def address_of(connection: Connection) -> str:
    """Return the address a request came from."""
    return connection.client.host if connection.client else ""


def caller_of(request: Any) -> Caller:
    """Return the caller the guard recognised."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)  # noqa: S101  # a route without the guard is our own fault
    return caller
