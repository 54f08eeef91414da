"""Messages on the mail path: listed and acted on by delivery, which owns them."""

from typing import Annotated, Literal

import msgspec
from litestar import get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.parameters import TheDesk
from services.control.caller import found_by_id
from services.control.core.fault import Fault, text_fault
from services.control.refusal import bad_request, unknown
from shared.contract import requests
from shared.contract.records import Configuration
from shared.contract.requests import QueueActed, QueueListing, QueueShape
from shared.mail.ids import parse_queue_id

MOST = 1000
MOST_DESTINATIONS = 500
REASON_LENGTH = 500
PLACES = ("", "ready", "later", "held", "due")


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do with a queued message."""

    action: Literal["retry", "hold", "release", "drop"]
    reason: str = ""


class QueuedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message on the mail path."""

    queue_id: str
    configuration: str
    domain: str
    """The sender domain of the configuration, "" if that is gone."""
    where: Literal["ready", "later", "held", "due"]


class QueuedMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Messages on the mail path, oldest first; `total` counts all that match."""

    entries: tuple[QueuedMessage, ...]
    total: int


@get("/v1/postlane/queue", tags=["queue"])
async def list_queue(
    request: Http,
    desk: TheDesk,
    configuration: FromQuery[str] = "",
    where: Annotated[str, QueryParameter(description="ready, later, held or due")] = "",
    limit: FromQuery[int] = 100,
) -> QueuedMessages:
    """List messages on the mail path; only operators may list all configurations at once."""
    caller = caller_of(request)
    if where not in PLACES:
        raise bad_request(Fault("invalid_place", "where is ready, later, held or due", "where"))
    if not 1 <= limit <= MOST:
        raise bad_request(Fault("invalid_limit", f"limit must be 1 to {MOST}", "limit"))
    if configuration:
        found_by_id(desk.directory, caller, Configuration, "configuration", configuration)
    elif not caller.is_operator:
        raise bad_request(Fault("configuration_missing", "name the configuration to list", "configuration"))
    wish = requests.ListQueue(configuration=configuration, where=where, limit=limit)
    listed = await desk.ask("delivery", requests.QUEUE_LIST, wish, QueueListing)
    configurations = {entry.configuration for entry in listed.entries}
    domains = {c: found.domain for c in configurations if (found := _configuration(desk, c))}
    entries = [
        msgspec.convert(msgspec.to_builtins(entry) | {"domain": domains.get(entry.configuration, "")}, QueuedMessage)
        for entry in listed.entries
    ]
    return QueuedMessages(entries=tuple(entries), total=listed.total)


@get("/v1/postlane/queue/shape", tags=["queue"])
async def shape_queue(
    request: Http,
    desk: TheDesk,
    configuration: Annotated[str, QueryParameter(description="only this configuration; empty: all you may see")] = "",
    limit: Annotated[int, QueryParameter(description="destinations, 1 to 500")] = 50,
) -> QueueShape:
    """Count unfinished recipients by destination and by how long they have waited."""
    caller = caller_of(request)
    if not 1 <= limit <= MOST_DESTINATIONS:
        raise bad_request(Fault("invalid_limit", f"limit must be 1 to {MOST_DESTINATIONS}", "limit"))
    if configuration:
        found_by_id(desk.directory, caller, Configuration, "configuration", configuration)
    wish = requests.ShapeQueue(instances=caller.instances, configuration=configuration, limit=limit)
    return await desk.ask("tracker", requests.SHAPE, wish, QueueShape)


def _configuration(desk: Desk, identity: str) -> Configuration | None:
    return desk.directory.get(f"configuration.{identity}", Configuration)


@post("/v1/postlane/queue/{queue_id:str}", status_code=200, tags=["queue"])
async def act_on_queue(request: Http, desk: TheDesk, queue_id: FromPath[str], data: JSONBody[Act]) -> QueueActed:
    """Retry, hold, release or drop one message."""
    caller = caller_of(request)
    caller.needs_write()
    parsed = parse_queue_id(queue_id)
    if parsed is None:
        raise unknown("message", queue_id)
    if faults := text_fault("reason", data.reason, 0, REASON_LENGTH):
        raise bad_request(*faults)
    wish = requests.QueueAction(
        queue_id=parsed, action=data.action, by=caller.name, reason=data.reason, instances=caller.instances
    )
    acted = await desk.ask("delivery", requests.QUEUE_ACT, wish, QueueActed)
    whose = acted.instance or caller.instance or ""  # a tenant reads in its audit log what an operator did to its mail
    await desk.directory.audit(caller.name, f"queue {data.action}", f"message.{parsed}", whose, None, None)
    return acted


HANDLERS = [list_queue, shape_queue, act_on_queue]
