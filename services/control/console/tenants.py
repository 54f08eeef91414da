"""Tenants: all of them for an operator; one with its domains, where it sends to, and what changed."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from services.control.console.calls import path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit


@get(f"{ROOT}/tenants")
async def list_tenants(visit: TheVisit) -> Response[str]:
    """List the tenants the key may see."""
    return visit.page("tenants", tenants=(await visit.calls.get("/v1/postlane/instances"))["instances"])


@get(f"{ROOT}/waiting")
async def list_waiting(visit: TheVisit) -> Response[str]:
    """List the domains of all tenants that wait for a decision of the operator."""
    found: list[dict[str, Any]] = []
    listed = (await visit.calls.get("/v1/postlane/instances"))["instances"]
    for each in (instance for instance in listed if instance["configurations"]):
        overviews = await visit.calls.get(path("v1", "postlane", "instances", each["id"], "configurations"))
        domains = [c for c in overviews["configurations"] if c["authorization"] == "submitted"]
        found += [domain | {"tenant": each["name"]} for domain in domains]
    return visit.page("waiting", domains=found)


@post(f"{ROOT}/tenants")
async def add_tenant(visit: TheVisit, data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Make a tenant."""
    made = await visit.calls.act("POST", "/v1/postlane/instances", {"name": data.get("name", "")})
    return elsewhere(f"{ROOT}/tenants/{made['id']}?done=made")


@get(f"{ROOT}/tenants/{{instance:str}}")
async def show_tenant(visit: TheVisit, instance: FromPath[str]) -> Response[str]:
    """Show a tenant: its domains with what each still lacks, and where applications send to."""
    own = ("v1", "postlane", "instances", instance)
    overviews = (await visit.calls.get(path(*own, "configurations")))["configurations"]
    return visit.page("tenant", domains=overviews, endpoints=await visit.calls.get(path(*own, "endpoints")))


@post(f"{ROOT}/tenants/{{instance:str}}/domains")
async def add_domain(visit: TheVisit, instance: FromPath[str], data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Make a configuration for a domain."""
    domain = data.get("domain", "").strip()
    wish = {"name": domain, "domain": domain}
    made = await visit.calls.act("POST", path("v1", "instances", instance, "smtp", "config"), wish)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{made['id']}?done=made")


@get(f"{ROOT}/tenants/{{instance:str}}/audit")
async def show_audit(visit: TheVisit, instance: FromPath[str], before: FromQuery[str] = "") -> Response[str]:
    """Show who changed what, newest first."""
    page = await visit.calls.get("/v1/postlane/audit", instance=instance, limit="100", before=before)
    return visit.page("audit", records=page["records"], older=page.get("older"))


HANDLERS = [list_tenants, list_waiting, add_tenant, show_tenant, add_domain, show_audit]
