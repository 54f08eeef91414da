"""Signing in with an API key, and out."""

from typing import Annotated, Any
from urllib.parse import unquote

from litestar import MediaType, Response, get, post
from litestar.params import QueryParameter, URLEncodedBody

from services.control.console.calls import Declined
from services.control.console.pages import HEADERS, ROOT, STYLE, elsewhere, page
from services.control.console.visit import COOKIE, Http, TheVisit, calls_of, check_origin, cookie

OPEN = {"open": True}
Wanted = Annotated[str, QueryParameter(name="next")]


def _own(wanted: str) -> str:
    """Return a page of ours, whatever was asked for."""
    place = unquote(wanted.partition("?")[0])
    is_ours = place.startswith(f"{ROOT}/") and not any(each in place for each in ("\\", "//", ".", "#", "%"))
    return wanted if is_ours and "\\" not in wanted and place.isprintable() else ROOT


@get(ROOT)
async def first_page(visit: TheVisit) -> Response[Any]:
    """Lead to what the key is for: all tenants, or its own."""
    listed = (await visit.calls.get("/v1/postlane/instances"))["instances"]
    alone = len(listed) == 1 and not visit.is_operator
    return elsewhere(f"{ROOT}/tenants/{listed[0]['id']}" if alone else f"{ROOT}/tenants")


@get(f"{ROOT}/sign-in", opt=OPEN)
async def ask_key(wanted: Wanted = "") -> Response[str]:
    """Ask for an API key."""
    return page("sign_in", why="", wanted=_own(wanted))


@post(f"{ROOT}/sign-in", opt=OPEN)
async def sign_in(request: Http, data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Exchange the key for a token; only that is kept, by the browser."""
    check_origin(request)
    wanted = _own(data.get("next", ""))
    try:
        made = await calls_of(request).token(data.get("key", "").strip())
    except Declined as fault:
        if fault.status == 429:
            why = "Too many keys were tried from your address. Wait a minute."
            return page("sign_in", 429, why=why, wanted=wanted)
        if fault.status != 400:
            raise
        why = "That is no key, or it has ended. An operator makes one: postlane key add."
        return page("sign_in", 403, why=why, wanted=wanted)
    answer = elsewhere(wanted)
    answer.set_cookie(cookie(request, made["access_token"], made["expires_in"]))
    return answer


@post(f"{ROOT}/sign-out", opt=OPEN)
async def sign_out(request: Http) -> Response[Any]:
    """Forget the token."""
    check_origin(request)
    answer = elsewhere(f"{ROOT}/sign-in")
    answer.delete_cookie(COOKIE, path=ROOT)
    return answer


@get(f"{ROOT}/style.css", opt=OPEN)
async def style() -> Response[str]:
    """Return how pages look."""
    return Response(STYLE, media_type=MediaType.CSS, headers=HEADERS)


HANDLERS = [first_page, ask_key, sign_in, sign_out, style]
