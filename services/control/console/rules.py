"""Rules: each must let an address in before it reaches the SMTP interface."""

from typing import Any

from litestar import Response, post
from litestar.params import FromPath, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit, Visit


async def rules_of(visit: Visit, instance: str) -> list[dict[str, Any]]:
    """Return the rules of an instance, oldest first."""
    return [_shown(each) for each in (await visit.calls.get("/v1/rules", account_id=instance))["rules"]]


def enforced(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that let in or keep out."""
    return [rule for rule in rules if rule["enforcement_mode"] == "enabled"]


def ids(rules: list[dict[str, Any]]) -> str:
    """Return their IDs in one word, the same for the same rules."""
    return ",".join(sorted(str(rule["id"]) for rule in rules))


def zones_named(rules: list[dict[str, Any]]) -> set[str]:
    """Return the IDs of the zones that rules name."""
    return {each for rule in rules for way in rule["ways"] for each in way["zones"]}


def _shown(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule with the ways in that it lists: each is zones at endpoints, and one is enough."""
    ways = []
    for context in rule["contexts"]:
        said = {each["name"]: [part.strip() for part in each["value"].split(",")] for each in context["attributes"]}
        ways.append({"zones": said.get("networkZoneId", []), "endpoints": said.get("endpointType", [])})
    return rule | {"ways": ways}


@post(f"{ROOT}/tenants/{{instance:str}}/access/rules/{{rule:str}}/remove")
async def remove(
    visit: TheVisit, instance: FromPath[str], rule: FromPath[str], data: URLEncodedBody[dict[str, str]]
) -> Response[Any]:
    """Remove a rule; what follows from that depends on the others, so these must be as they were on the page."""
    if data.get("sure") != "yes":
        raise Declined(400, ("without the rule others get in, or nobody does: tick that you mean it",))
    present = await rules_of(visit, instance)
    if not any(each["id"] == rule for each in present):
        raise Declined(404, (f"there is no rule {rule!r} here",))
    if visit.may_write and data.get("enforced") != ids(enforced(present)):
        raise Declined(409, ("other rules have come or gone meanwhile: look at them again, then decide",))
    await visit.calls.act("DELETE", path("v1", "rules", rule))
    return elsewhere(f"{ROOT}/tenants/{instance}/access?done=removed")


HANDLERS = [remove]
