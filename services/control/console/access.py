"""Who may reach the SMTP interface: zones, rules, and why an address gets in or not."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.rules import enforced, ids, rules_of, zones_named
from services.control.console.visit import TheVisit
from services.control.core.access_rules import SMTP_API_TYPE

PAGE = f"{ROOT}/tenants/{{instance:str}}/access"
KEPT = ("name", "account_id", "description", "excluded")
"""What of a zone stays as it is when addresses are added."""


@get(PAGE)
async def show_access(
    visit: TheVisit, instance: FromPath[str], address: FromQuery[str] = "", endpoint: FromQuery[str] = "public"
) -> Response[str]:
    """Show zones and rules; explain an address."""
    explained = None
    if address.strip():
        where = path("v1", "postlane", "instances", instance, "access")
        explained = await visit.calls.get(where, address=address.strip(), endpoint=endpoint)
    zones = (await visit.calls.get("/v1/zones", account_id=instance))["zones"]
    rules = await rules_of(visit, instance)
    enabled = zones_named(enforced(rules))
    return visit.page(
        "access",
        allowing=[each for each in zones if each["id"] in enabled],
        enforced=enforced(rules),
        zones=[each | {"entries": await _addresses(visit, each)} for each in zones],
        names={each["id"]: each["name"] for each in zones},
        rules=rules,
        named=zones_named(rules),
        enforced_ids=ids(enforced(rules)),
        address=address,
        endpoint=endpoint,
        explained=explained,
    )


async def _addresses(visit: TheVisit, zone: dict[str, Any]) -> list[str]:
    whole = await visit.calls.get(path("v1", "zones", zone["id"]))
    listed = [each.get("value", each["type"]) for each in whole.get("addresses", ())]
    return listed + [f"not {each.get('value', each['type'])}" for each in whole.get("excluded", ())]


@post(PAGE)
async def let_in(visit: TheVisit, instance: FromPath[str], data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Add addresses to a zone that a rule lets in; where there is no rule, make both.

    A second rule would shut out whom the first one lets in: each must admit an address.
    """
    listed = data.get("addresses", "").replace(",", " ").split()
    addresses = [{"type": _kind(each), "value": each} for each in listed]
    done = elsewhere(f"{ROOT}/tenants/{instance}/access?done=made")
    if data.get("zone"):
        where = path("v1", "zones", data["zone"])
        present, etag = await visit.calls.versioned(where)
        if present["account_id"] != instance:
            raise Declined(404, ("there is no such zone here",))
        changed = {name: present[name] for name in KEPT if name in present}
        changed["addresses"] = [*present.get("addresses", ()), *addresses]
        await visit.calls.act("PUT", where, changed, etag=etag)
        return done
    if enforced(await rules_of(visit, instance)):
        raise Declined(409, ("there is a rule meanwhile: add the addresses to one of its zones",))
    zone = {"name": data.get("name", ""), "account_id": instance, "addresses": addresses}
    made = await visit.calls.act("POST", "/v1/zones", zone)
    resource = {"accountId": instance, "serviceName": "event-notifications", "serviceInstance": instance}
    rule = {
        "contexts": [{"attributes": [{"name": "networkZoneId", "value": made["id"]}]}],
        "resources": [{"attributes": [{"name": name, "value": value} for name, value in resource.items()]}],
        "operations": {"api_types": [{"api_type_id": SMTP_API_TYPE}]},
        "enforcement_mode": "enabled",
    }
    await visit.calls.act("POST", "/v1/rules", rule)
    return done


def _kind(address: str) -> str:
    return "subnet" if "/" in address else "ipRange" if "-" in address else "ipAddress"


@post(PAGE + "/zones/{zone:str}/remove")
async def remove_zone(
    visit: TheVisit, instance: FromPath[str], zone: FromPath[str], data: URLEncodedBody[dict[str, str]]
) -> Response[Any]:
    """Remove a zone that no rule names."""
    if data.get("sure") != "yes":
        raise Declined(400, ("the addresses of the zone are forgotten: tick that you mean it",))
    where = path("v1", "zones", zone)
    if (await visit.calls.get(where))["account_id"] != instance:
        raise Declined(404, ("there is no such zone here",))
    await visit.calls.act("DELETE", where)
    return elsewhere(f"{ROOT}/tenants/{instance}/access?done=removed")


HANDLERS = [show_access, let_in, remove_zone]
