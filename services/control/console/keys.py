"""API keys of a tenant: made and shown once, with their last use, revoked."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit

PAGE = f"{ROOT}/tenants/{{instance:str}}/keys"
KEYS = "/v1/postlane/keys"


@get(PAGE)
async def show_keys(visit: TheVisit, instance: FromPath[str]) -> Response[str]:
    """List the keys of a tenant."""
    return await _page(visit, instance)


@post(PAGE)
async def add_key(visit: TheVisit, instance: FromPath[str], data: URLEncodedBody[dict[str, str]]) -> Response[str]:
    """Make a key and show it, this once."""
    wish = {"role": data.get("role", ""), "instance": instance, "description": data.get("description", "")}
    return await _page(visit, instance, await visit.calls.act("POST", KEYS, wish))


async def _page(visit: TheVisit, instance: str, made: dict[str, Any] | None = None) -> Response[str]:
    listed = [each for each in (await visit.calls.get(KEYS))["keys"] if each.get("instance") == instance]
    return visit.page("keys", keys=listed, made=made)


@post(PAGE + "/{key:str}/revoke")
async def revoke(
    visit: TheVisit, instance: FromPath[str], key: FromPath[str], data: URLEncodedBody[dict[str, str]]
) -> Response[Any]:
    """Revoke a key of this tenant, and every session that was made with it."""
    if data.get("sure") != "yes":
        raise Declined(400, ("whoever uses the key is refused at once: tick that you mean it",))
    where = path("v1", "postlane", "keys", key)
    if (await visit.calls.get(where)).get("instance") != instance:
        raise Declined(404, (f"there is no key {key!r} of this tenant",))
    await visit.calls.act("DELETE", where)
    return elsewhere(f"{ROOT}/tenants/{instance}/keys?done=key-revoked")


HANDLERS = [show_keys, add_key, revoke]
