"""One sender domain: whether it may send, what to publish, the answers and the decision on them."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from services.control.console.calls import Calls, Declined, path
from services.control.console.pages import ROOT, elsewhere
from services.control.console.questionnaire import ASKED, answers_of
from services.control.console.visit import TheVisit, Visit
from shared.contract.questions import AFFIRMATIONS

PAGE = f"{ROOT}/tenants/{{instance:str}}/domains/{{configuration:str}}"
QUOTAS = {
    "messages_per_second": "messages a second",
    "messages_per_hour": "messages an hour",
    "messages_per_day": "messages a day",
    "recipients_per_message": "recipients a message",
    "message_bytes": "octets a message",
}
Form = URLEncodedBody[dict[str, str]]
Identity = FromPath[str]


def own(instance: str, configuration: str, *more: str) -> str:
    """Return the path of what only this product's API has of a configuration."""
    return path("v1", "postlane", "instances", instance, "configurations", configuration, *more)


def users(instance: str, configuration: str, *more: str) -> str:
    """Return the path of a configuration's users."""
    return path("v1", "instances", instance, "smtp", "config", configuration, "users", *more)


@get(PAGE)
async def show_domain(
    visit: TheVisit, instance: Identity, configuration: Identity, look: FromQuery[str] = ""
) -> Response[str]:
    """Show a domain; DNS is looked at only if that is asked for."""
    return await _shown(visit, instance, configuration, look="now" if look else "last")


async def _shown(
    visit: Visit,
    instance: str,
    configuration: str,
    *,
    look: str = "last",
    written: dict[str, Any] | None = None,
    problems: tuple[str, ...] = (),
) -> Response[str]:
    """Return the page; with the answers that were written and what is wrong with them, if they were refused."""
    calls = visit.calls
    return visit.page(
        "domain",
        status=400 if problems else 200,
        written=written or {},
        problems=problems,
        detail=await calls.get(own(instance, configuration)),
        advice=await calls.get(own(instance, configuration, "records"), look=look),
        users=await _users(calls, instance, configuration),
        use=await calls.get(own(instance, configuration, "quota")),
        quotas=QUOTAS,
        questions=ASKED,
        affirmations=AFFIRMATIONS,
    )


async def _users(calls: Calls, instance: str, configuration: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    while True:
        page = await calls.get(users(instance, configuration), limit="100", offset=str(len(listed)))
        listed += page["users"]
        if not page["users"] or len(listed) >= page["total_count"]:
            break
    for each in listed:
        each |= await calls.get(own(instance, configuration, "users", each["id"], "passwords"))
    return listed


@post(PAGE + "/check")
async def check(visit: TheVisit, instance: Identity, configuration: Identity) -> Response[Any]:
    """Have the records verified now."""
    for kind in ("dkim", "spf", "en_authorization"):
        where = path("v1", "instances", instance, "smtp", "config", configuration, "verify")
        await visit.calls.act("PATCH", where, None, type=kind)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?look=now&done=checked")


@post(PAGE + "/remove")
async def remove(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Remove a domain with its users; its queued mail waits and expires."""
    if data.get("sure") != "yes":
        raise Declined(400, ("mail of a removed domain is refused, and what is queued is held: tick that you mean it",))
    await visit.calls.act("DELETE", path("v1", "instances", instance, "smtp", "config", configuration))
    return elsewhere(f"{ROOT}/tenants/{instance}?done=removed")


@post(PAGE + "/authorization")
async def hand_in(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Hand in the questionnaire."""
    answers = answers_of(data)
    try:
        await visit.calls.act("PUT", own(instance, configuration, "authorization"), answers)
    except Declined as fault:
        if fault.status != 400:
            raise
        return await _shown(visit, instance, configuration, written=answers, problems=fault.messages)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=handed-in")


HANDLERS = [show_domain, check, remove, hand_in]
