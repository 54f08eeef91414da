"""Who visits: a cookie holds a short-lived token, never the key; acts must come from our own pages."""

from typing import Any

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.di import NamedDependency

from services.control.console.calls import Calls, Declined, path
from services.control.console.pages import ROOT, page

COOKIE = "postlane-console"
DONE = {
    "made": "It is made.",
    "checked": "DNS was looked at just now.",
    "handed-in": "The answers are handed in; an operator decides on them.",
    "decided": "The decision is made; the contacts get a mail.",
    "suspended": "Sending is suspended: new mail is refused, queued mail waits.",
    "resumed": "The suspension has ended; mail that waited goes on.",
    "removed": "It is removed.",
    "revoked": "That password has ended.",
    "key-revoked": "That key has ended.",
    "entered": "The address is on the list: nothing is sent to it any more.",
    "changed": "It is changed; ingress takes it up within a second.",
    "link-mailed": "The link is mailed.",
    "rotation-begun": "The next key is made: publish its record.",
    "rotation-finished": "The old key is retired; leave its record for a week, for mail that is under way.",
    "rotation-cancelled": "The key in use stays; the record of the next one may go.",
    "second-key": "It is made; mail is signed twice once it is in DNS.",
    "second-key-removed": "Mail has one signature from now on; the record of the second key may go.",
    "takeover-begun": "Publish the record of that domain, then have it looked up.",
    "taken-over": "The domain is yours, and the one who had it is suspended: publish these records.",
    "given-up": "The takeover is given up.",
    "retry": "The message is tried again now.",
    "hold": "The message waits until it is released.",
    "release": "The message goes on.",
    "drop": "The message is dropped.",
}
"""What a page says that follows an act; the address names only which, so that nobody can put words there."""
Http = Request[Any, Any, Any]


class SignedOut(Exception):
    """Nobody is signed in, or no longer: the token has ended, or its key."""


class Foreign(Exception):
    """An act that no page of ours asked for."""


class Visit:
    """One request of somebody signed in."""

    def __init__(self, calls: Calls, caller: dict[str, Any], tenant: dict[str, Any] | None, done: str) -> None:
        self.calls = calls
        self.role: str = caller["role"]
        self.key: str = caller["key"]
        self.done = DONE.get(done, "")
        """What the page before this one did, "" if it was none of ours."""
        self.tenant = tenant
        """The instance a page is about, None on pages about all."""

    @property
    def is_operator(self) -> bool:
        """Whether decisions are theirs."""
        return self.role == "operator"

    @property
    def may_write(self) -> bool:
        """Whether forms are of any use to them; the API decides all the same."""
        return self.role != "reader"

    def page(self, name: str, **values: Any) -> Response[str]:
        """Return a page for this visitor."""
        return page(name, visit=self, **values)


TheVisit = NamedDependency[Visit]


def calls_of(request: Http, token: str = "") -> Calls:
    """Return calls of the API that come from where the request came from."""
    address = request.client.host if request.client else ""
    return Calls(request.app.state.api, address, request.headers.get("user-agent", ""), token)


async def visit_of(request: Http) -> Visit:
    """Recognise a visitor, and fetch the instance that the path names.

    Errors: `SignedOut`, `Foreign`, `Declined` (404) for an instance that is not theirs.
    """
    if request.method != "GET":
        check_origin(request)
    token = request.cookies.get(COOKIE, "")
    if not token or not token.isascii():
        raise SignedOut
    calls = calls_of(request, token)
    try:
        caller = await calls.get("/v1/postlane/self")
    except Declined as fault:
        if fault.status == 401:
            raise SignedOut from fault
        raise
    instance = request.path_params.get("instance", "")
    tenant = await calls.get(path("v1", "postlane", "instances", instance)) if instance else None
    return Visit(calls, caller, tenant, request.query_params.get("done", ""))


def check_origin(request: Http) -> None:
    """Let only our own pages act.

    Errors: `Foreign`. Browsers say where a form was sent from (Fetch, §3.2; and `Sec-Fetch-Site` where they trust
    the connection); what says nothing is no browser and has the API.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise Foreign
        return
    origin = request.headers.get("origin", "")
    scheme, _, host = origin.partition("://")
    if host and origin == request.app.state.public_url.rstrip("/"):
        return  # also where a proxy in front tells another Host
    if not host or host != request.headers.get("host", "") or (scheme == "http" and _is_secure(request)):
        raise Foreign


def _is_secure(request: Http) -> bool:
    return request.url.scheme == "https" or request.app.state.public_url.startswith("https:")


def cookie(request: Http, token: str, seconds: int) -> Cookie:
    """Return the cookie of a session: not for scripts, not for other sites' forms, over TLS if it was made so."""
    return Cookie(
        COOKIE, value=token, path=ROOT, max_age=seconds, httponly=True, samesite="lax", secure=_is_secure(request)
    )  # fmt: skip
