"""Who may reach the SMTP interface: zones, rules, and why an address gets in or not."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere
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
    rules = await _rules(visit, instance)
    enforced = [rule for rule in rules if rule["enforcement_mode"] == "enabled"]
    enabled = {each for rule in enforced for way in rule["ways"] for each in way["zones"]}
    return visit.page(
        "access",
        allowing=[each for each in zones if each["id"] in enabled],
        enforced=enforced,
        zones=[each | {"entries": await _addresses(visit, each)} for each in zones],
        names={each["id"]: each["name"] for each in zones},
        rules=rules,
        address=address,
        endpoint=endpoint,
        explained=explained,
    )


async def _addresses(visit: TheVisit, zone: dict[str, Any]) -> list[str]:
    whole = await visit.calls.get(path("v1", "zones", zone["id"]))
    listed = [each.get("value", each["type"]) for each in whole.get("addresses", ())]
    return listed + [f"not {each.get('value', each['type'])}" for each in whole.get("excluded", ())]


async def _rules(visit: TheVisit, instance: str) -> list[dict[str, Any]]:
    return [_shown(each) for each in (await visit.calls.get("/v1/rules", account_id=instance))["rules"]]


def _shown(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule with the ways in that it lists: each is zones at endpoints, and one is enough."""
    ways = []
    for context in rule["contexts"]:
        said = {each["name"]: [part.strip() for part in each["value"].split(",")] for each in context["attributes"]}
        ways.append({"zones": said.get("networkZoneId", []), "endpoints": said.get("endpointType", [])})
    return rule | {"ways": ways}


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
    if any(rule["enforcement_mode"] == "enabled" for rule in await _rules(visit, instance)):
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


HANDLERS = [show_access, let_in]
