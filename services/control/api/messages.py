"""What became of messages: asked of the tracker, followed live on the stream of status events."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, get_args

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.masks import event_shown_to, shown_to
from services.control.api.parameters import TheDesk
from services.control.caller import Caller
from services.control.core.fault import Fault
from services.control.refusal import bad_request, unknown
from shared.contract import requests, subjects
from shared.contract.envelope import FINAL, RecipientStatus
from shared.contract.errors import BusUnavailable
from shared.contract.records import Lane
from shared.contract.requests import MessageDescription, MessagesFound, RefusalDescription
from shared.mail.ids import parse_queue_id, parse_reference

MOST_FOUND = 500
STATUS = "STATUS"
STATUSES: tuple[str, ...] = get_args(RecipientStatus)
LANES: tuple[str, ...] = get_args(Lane)


async def _described(request: Http, desk: Desk, queue_id: str) -> MessageDescription:
    parsed = parse_queue_id(queue_id)
    if parsed is None:
        raise unknown("message", queue_id)
    wish = requests.DescribeMessage(queue_id=parsed, instances=caller_of(request).instances)
    return shown_to(caller_of(request), await desk.ask("tracker", requests.MESSAGE, wish, MessageDescription))


@get("/v1/postlane/messages/{queue_id:str}", tags=["messages"])
async def get_message(request: Http, desk: TheDesk, queue_id: FromPath[str]) -> MessageDescription:
    """Return what became of a message: state of each recipient, timeline, and why it is where it is."""
    return await _described(request, desk, queue_id)


@get("/v1/postlane/messages/{queue_id:str}/events", tags=["messages"])
async def follow_message(request: Http, desk: TheDesk, queue_id: FromPath[str]) -> ServerSentEvent:
    """Stream the events of a message as server-sent events until it is finished; each `data` is one JSON record."""
    found = await _described(request, desk, queue_id)
    return ServerSentEvent(_events(desk, caller_of(request), found))


async def _events(desk: Desk, caller: Caller, found: MessageDescription) -> AsyncIterator[ServerSentEventMessage]:
    for entry in found.timeline:
        if entry.what == "accepted":
            yield ServerSentEventMessage(data=bytes(entry.event).decode(), event="accepted")
    subject = subjects.status(found.instance, found.configuration, found.queue_id)
    seen, beat = 0, 0.0
    loop = asyncio.get_running_loop()
    until = loop.time() + desk.settings.follow_seconds
    while loop.time() < until:
        try:
            last = await desk.bus.last(STATUS, subject)
            if last is not None and last.sequence > seen:
                async for stored in desk.bus.scan(STATUS, subject, seen + 1):
                    seen = stored.sequence
                    yield ServerSentEventMessage(
                        data=event_shown_to(caller, stored.payload).decode(), event="status", id=str(seen)
                    )
                status = msgspec.json.decode(last.payload, type=_Status).status
                if status in FINAL:
                    return
        except BusUnavailable:
            pass  # the stream of events goes on when the bus is back
        if last_beat_is_old(loop.time(), beat):
            beat = loop.time()
            yield ServerSentEventMessage(data=None, comment="waiting")
        await asyncio.sleep(desk.settings.follow_poll_seconds)


class _Status(msgspec.Struct):
    status: str


def last_beat_is_old(at: float, beat: float) -> bool:
    """Whether a silent stream should say that it lives."""
    return at - beat >= BEAT_SECONDS


BEAT_SECONDS = 15.0


@get("/v1/postlane/messages", tags=["messages"])
async def search_messages(
    request: Http,
    desk: TheDesk,
    configuration: FromQuery[str] = "",
    message_id: FromQuery[str] = "",
    recipient: FromQuery[str] = "",
    sender: FromQuery[str] = "",
    status: FromQuery[str] = "",
    since: FromQuery[datetime | None] = None,
    until: FromQuery[datetime | None] = None,
    instance: FromQuery[str] = "",
    lane: Annotated[str, QueryParameter(description="transactional or marketing")] = "",
    limit: FromQuery[int] = 50,
    offset: FromQuery[int] = 0,
) -> MessagesFound:
    """Search messages, newest first."""
    if not 1 <= limit <= MOST_FOUND or offset < 0:
        raise bad_request(Fault("invalid_limit", f"limit must be 1 to {MOST_FOUND}, offset not negative", "limit"))
    if status and status not in STATUSES:
        raise bad_request(
            Fault("invalid_status", f"{status!r} is not a status; use one of {', '.join(STATUSES)}", "status")
        )
    if lane and lane not in LANES:
        raise bad_request(Fault("invalid_lane", f"{lane!r} is not a lane; use one of {', '.join(LANES)}", "lane"))
    for name, at in (("since", since), ("until", until)):
        if at is not None and at.tzinfo is None:
            raise bad_request(Fault("invalid_time", f"{name} needs a time zone, as 2026-11-01T00:00:00Z", name))
    caller = caller_of(request)
    instances = caller.instances
    if instance:
        if not caller.reaches(instance):
            raise unknown("instance", instance)
        instances = (instance,)
    wish = requests.SearchMessages(
        instances=instances,
        configuration=configuration,
        message_id=message_id,
        recipient=recipient,
        sender=sender,
        status=status,
        lane=lane,
        since=since,
        until=until,
        limit=limit,
        offset=offset,
    )
    return shown_to(caller, await desk.ask("tracker", requests.SEARCH, wish, MessagesFound))


@get("/v1/postlane/refusals/{reference:str}", tags=["messages"])
async def get_refusal(request: Http, desk: TheDesk, reference: FromPath[str]) -> RefusalDescription:
    """Look up a refusal by the reference the client was given."""
    parsed = parse_reference(reference)
    if parsed is None:
        raise unknown("refusal", reference)
    wish = requests.DescribeRefusal(reference=parsed, instances=caller_of(request).instances)
    return shown_to(caller_of(request), await desk.ask("tracker", requests.REFUSAL, wish, RefusalDescription))


HANDLERS = [get_message, follow_message, search_messages, get_refusal]
