"""Recipients a domain no longer sends to."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromQuery

from services.control.console.domains import PAGE, Form, Identity, own
from services.control.console.pages import ROOT, elsewhere, whole
from services.control.console.visit import TheVisit

ENTRIES = 100


@get(PAGE + "/suppressions")
async def show_suppressions(
    visit: TheVisit,
    instance: Identity,
    configuration: Identity,
    search: FromQuery[str] = "",
    offset: FromQuery[str] = "0",
) -> Response[str]:
    """List them, newest first."""
    where = own(instance, configuration, "suppressions")
    return visit.page(
        "suppressions",
        found=await visit.calls.get(where, limit=str(ENTRIES), offset=str(whole(offset) or 0), search=search),
        overview=(await visit.calls.get(own(instance, configuration)))["overview"],
        search=search,
    )


@post(PAGE + "/suppressions")
async def change(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Enter an address, or take it off."""
    where = own(instance, configuration, "suppressions")
    address = data.get("address", "").strip()
    done = "entered"
    if data.get("act") == "remove":
        await visit.calls.act("DELETE", where, address=address)
        done = "removed"
    else:
        await visit.calls.act("POST", where, {"address": address, "reason": data.get("reason", "")})
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}/suppressions?done={done}")


HANDLERS = [show_suppressions, change]
