"""The console as an ASGI application, and the front that hands each request to it or to the API."""

import logging
from typing import Any
from urllib.parse import quote

from litestar import Litestar, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException

from services.control.console import (
    access,
    decisions,
    domains,
    health,
    keys,
    messages,
    preferences,
    rules,
    sign_in,
    signing_keys,
    suppressions,
    takeovers,
    tenants,
    users,
)
from services.control.console.calls import Declined
from services.control.console.pages import ROOT, elsewhere, page
from services.control.console.visit import COOKIE, Foreign, Http, SignedOut, visit_of
from services.control.settings import ControlSettings

log = logging.getLogger("control")

MODULES = (
    sign_in, tenants, takeovers, keys, domains, preferences, signing_keys, decisions, users, messages, access,
    rules, suppressions, health,
)  # fmt: skip


def make_console(api: Any, settings: ControlSettings) -> Any:
    """Return the console over an API."""
    return Litestar(
        route_handlers=[handler for module in MODULES for handler in module.HANDLERS],
        dependencies={"visit": Provide(visit_of)},
        exception_handlers={
            SignedOut: _on_signed_out,
            Foreign: _on_foreign,
            Declined: _on_declined,
            HTTPException: _on_http,
            Exception: _on_fault,
        },
        state=State({"api": api, "public_url": settings.public_url}),
        request_max_body_size=settings.request_bytes,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _on_signed_out(request: Http, _fault: Exception) -> Response[Any]:
    asked = f"{request.url.path}?{request.url.query}".rstrip("?")
    wanted = quote(asked, safe="/") if request.method == "GET" else ROOT
    answer = elsewhere(f"{ROOT}/sign-in?next={wanted}")
    answer.delete_cookie(COOKIE, path=ROOT)
    return answer


def _on_foreign(_request: Http, _fault: Exception) -> Response[Any]:
    return page("problem", 403, messages=["This was not sent from a page of the console, so nothing was done."])


def _on_declined(request: Http, fault: Declined) -> Response[Any]:
    if fault.status == 401:  # the key ended while the page was made
        return _on_signed_out(request, fault)
    return page("problem", fault.status, messages=fault.messages)


def _on_http(_request: Http, fault: HTTPException) -> Response[Any]:
    said = "There is no such page." if fault.status_code == 404 else "The console does not understand this request."
    return page("problem", fault.status_code, messages=[said])


def _on_fault(request: Http, fault: Exception) -> Response[Any]:
    log.error("a page failed by our fault", exc_info=fault, extra={"path": request.url.path})
    return page("problem", 500, messages=["Something went wrong on our side; the log of control has it."])


class Front:
    """Hands what is under /console to the console, everything else to the API. Pure ASGI."""

    def __init__(self, api: Any, console: Any) -> None:
        self._api = api
        self._console = console

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        path = scope.get("path", "")
        here = path == ROOT or path.startswith(f"{ROOT}/")
        await (self._console if here else self._api)(scope, receive, send)
