"""Taking over a domain that another tenant has, by a record that only its owner can publish."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit

PAGE = f"{ROOT}/tenants/{{instance:str}}/takeovers"


def _own(instance: str, *more: str) -> str:
    return path("v1", "postlane", "instances", instance, "takeovers", *more)


@get(PAGE)
async def show_takeovers(visit: TheVisit, instance: FromPath[str]) -> Response[str]:
    """List what is open, each with the record to publish."""
    return visit.page("takeovers", takeovers=(await visit.calls.get(_own(instance)))["takeovers"])


@post(PAGE)
async def begin(visit: TheVisit, instance: FromPath[str], data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Ask for a domain."""
    await visit.calls.act("POST", _own(instance), {"domain": data.get("domain", "").strip()})
    return elsewhere(f"{ROOT}/tenants/{instance}/takeovers?done=takeover-begun")


@post(PAGE + "/{takeover:str}/complete")
async def complete(
    visit: TheVisit, instance: FromPath[str], takeover: FromPath[str], data: URLEncodedBody[dict[str, str]]
) -> Response[Any]:
    """Have the record looked up; if it is there, the domain changes hands."""
    if data.get("sure") != "yes":
        raise Declined(400, ("the one who has the domain is suspended: tick that you mean it",))
    wish = {"delegate": data.get("delegate") == "yes"}
    made = await visit.calls.act("POST", _own(instance, takeover, "complete"), wish)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{made['id']}?done=taken-over")


@post(PAGE + "/{takeover:str}/drop")
async def drop(
    visit: TheVisit, instance: FromPath[str], takeover: FromPath[str], data: URLEncodedBody[dict[str, str]]
) -> Response[Any]:
    """Give it up."""
    if data.get("sure") != "yes":
        raise Declined(400, ("the record proves nothing any more: tick that you mean it",))
    await visit.calls.act("DELETE", _own(instance, takeover))
    return elsewhere(f"{ROOT}/tenants/{instance}/takeovers?done=given-up")


HANDLERS = [show_takeovers, begin, complete, drop]
