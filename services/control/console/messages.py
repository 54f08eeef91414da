"""Messages: searched, told whole, acted on while they are queued; and refusals by their reference."""

from typing import Any, get_args

from litestar import Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody

from services.control.console.calls import Declined, path
from services.control.console.pages import ROOT, elsewhere, whole
from services.control.console.visit import TheVisit
from shared.contract.envelope import FINAL, RecipientStatus

ENTRIES = 50
STATUSES: tuple[str, ...] = get_args(RecipientStatus)
ACTS = {
    "retry": "Try again now",
    "hold": "Hold",
    "release": "Release",
    "drop": "Drop",
}


@get(f"{ROOT}/tenants/{{instance:str}}/messages")
async def search(
    visit: TheVisit,
    instance: FromPath[str],
    recipient: FromQuery[str] = "",
    sender: FromQuery[str] = "",
    message_id: FromQuery[str] = "",
    status: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    configuration: FromQuery[str] = "",
    offset: FromQuery[str] = "0",
) -> Response[str]:
    """Search messages of a tenant, newest first."""
    wish = {
        "recipient": recipient.strip(), "sender": sender.strip(), "message_id": message_id.strip(), "status": status,
        "since": _instant(since), "until": _instant(until), "configuration": configuration,
    }  # fmt: skip
    skip = whole(offset) or 0
    found = await visit.calls.get(
        "/v1/postlane/messages", instance=instance, limit=str(ENTRIES), offset=str(skip), **wish
    )
    asked = {
        "recipient": recipient, "sender": sender, "message_id": message_id, "status": status,
        "since": since, "until": until, "configuration": configuration,
    }  # fmt: skip
    return visit.page("messages", found=found, asked=asked, skip=skip, entries=ENTRIES, statuses=STATUSES)


def _instant(text: str) -> str:
    """Return what a browser's field for a time holds, as the API takes it: UTC."""
    text = text.strip()
    return f"{text if len(text) > len('2026-11-01T00:00') else text + ':00'}Z" if text else ""


@get(f"{ROOT}/find")
async def find(visit: TheVisit, what: FromQuery[str] = "") -> Response[Any]:
    """Lead from a queue ID or the reference of a refusal to what it names."""
    wanted = what.strip()
    try:
        found = await visit.calls.get(path("v1", "postlane", "messages", wanted or "-"))
        return elsewhere(f"{ROOT}/messages/{found['queue_id']}")
    except Declined as fault:
        if fault.status != 404:
            raise
    try:
        refusal = await visit.calls.get(path("v1", "postlane", "refusals", wanted or "-"))
    except Declined as fault:
        if fault.status != 404:
            raise
        raise Declined(404, (f"there is neither a message nor a refusal {wanted!r} here",)) from fault
    return visit.page("refusal", reference=wanted, refusal=refusal)


@get(f"{ROOT}/messages/{{queue_id:str}}")
async def show_message(visit: TheVisit, queue_id: FromPath[str], follow: FromQuery[str] = "") -> Response[str]:
    """Tell a message: why it is where it is, each recipient, each attempt with what was answered."""
    found = await visit.calls.get(path("v1", "postlane", "messages", queue_id))
    is_final = found["status"] in FINAL
    visit.tenant = await visit.calls.get(path("v1", "postlane", "instances", found["instance"]))
    return visit.page("message", message=found, is_final=is_final, follow=bool(follow) and not is_final, acts=ACTS)


@post(f"{ROOT}/messages/{{queue_id:str}}")
async def act(visit: TheVisit, queue_id: FromPath[str], data: URLEncodedBody[dict[str, str]]) -> Response[Any]:
    """Retry, hold, release or drop a queued message."""
    wish = {"action": data.get("act", ""), "reason": data.get("reason", "")}
    if wish["action"] == "drop" and data.get("sure") != "yes":
        raise Declined(400, ("a dropped message is gone: tick that you mean it",))
    await visit.calls.act("POST", path("v1", "postlane", "queue", queue_id), wish)
    return elsewhere(f"{ROOT}/messages/{queue_id}?done={wish['action']}")


HANDLERS = [search, find, show_message, act]
