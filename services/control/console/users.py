"""SMTP users of a domain: made, given another password, removed. A password is on one page, once."""

from typing import Any

from litestar import Response, post

from services.control.console.calls import Declined
from services.control.console.domains import PAGE, Form, Identity, own, users
from services.control.console.pages import ROOT, elsewhere, whole
from services.control.console.visit import TheVisit

DAY_SECONDS = 86_400
MOST_DAYS = 365


@post(PAGE + "/users")
async def add_user(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[str]:
    """Make a user and show its password."""
    made = await visit.calls.act("POST", users(instance, configuration), {"description": data.get("description", "")})
    return await _shown(visit, instance, configuration, made)


@post(PAGE + "/users/{user:str}/rotate")
async def rotate(
    visit: TheVisit, instance: Identity, configuration: Identity, user: Identity, data: Form
) -> Response[str]:
    """Make a second password and show it; the present one goes on for some days."""
    days = whole(data.get("days", "").strip())
    if days is None or days > MOST_DAYS:
        raise Declined(400, ("say for how many days the present password works, 0 to 365; 0 ends it at once",))
    wish = {"keep_seconds": days * DAY_SECONDS}
    made = await visit.calls.act("POST", own(instance, configuration, "users", user, "rotate"), wish)
    return await _shown(visit, instance, configuration, made)


async def _shown(visit: TheVisit, instance: str, configuration: str, made: dict[str, Any]) -> Response[str]:
    endpoints = await visit.calls.get(f"/v1/postlane/instances/{visit.tenant['id']}/endpoints") if visit.tenant else {}
    back = f"{ROOT}/tenants/{instance}/domains/{configuration}"
    return visit.page("password", made=made, endpoints=endpoints, back=back)


@post(PAGE + "/users/{user:str}/remove")
async def remove(
    visit: TheVisit, instance: Identity, configuration: Identity, user: Identity, data: Form
) -> Response[Any]:
    """Remove a user; its password ends within a second."""
    if data.get("sure") != "yes":
        raise Declined(400, ("the mail of a removed user is refused: tick that you mean it",))
    await visit.calls.act("DELETE", users(instance, configuration, user))
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=removed")


@post(PAGE + "/users/{user:str}/passwords/{password:str}/revoke")
async def revoke(
    visit: TheVisit, instance: Identity, configuration: Identity, user: Identity, password: Identity
) -> Response[Any]:
    """End one of two passwords at once; the last one that works stays."""
    await visit.calls.act("DELETE", own(instance, configuration, "users", user, "passwords", password))
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=revoked")


HANDLERS = [add_user, rotate, remove, revoke]
