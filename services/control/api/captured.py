"""Staged messages that delivery kept instead of sending them: listed, shown and handed out to their own tenant."""

from datetime import datetime

import msgspec
from litestar import get
from litestar.params import FromPath, FromQuery
from litestar.response import Response

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.masks import shown_to
from services.control.api.parameters import InstanceId, TheDesk
from services.control.caller import Caller, instance_of
from services.control.core.fault import Fault
from services.control.refusal import bad_request, unavailable, unknown
from shared.contract import subjects
from shared.contract.errors import BusUnavailable
from shared.contract.events import MessageCaptured
from shared.mail.ids import parse_queue_id

STREAM = "CAPTURED"
MOST = 200
SHOWN_OCTETS = 20_000
"""Octets of a mail that `show` quotes."""


class CapturedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A kept message, without its octets."""

    queue_id: str
    configuration: str
    at: datetime
    sender: str
    recipients: tuple[str, ...]
    size: int


class CapturedMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Kept messages, newest first."""

    messages: tuple[CapturedMessage, ...]
    total: int


class CapturedContent(msgspec.Struct, frozen=True, kw_only=True):
    """A kept message and how it begins."""

    message: CapturedMessage
    text: str
    """Its first octets, header and all, as text."""
    cut: bool
    """Whether there is more."""


@get("/v1/postlane/instances/{instance_id:str}/captured", tags=["captured"])
async def list_captured(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration: FromQuery[str] = "",
    limit: FromQuery[int] = 50,
) -> CapturedMessages:
    """List the staged messages of an instance that were kept, newest first."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id)
    if not 1 <= limit <= MOST:
        raise bad_request(Fault("invalid_limit", f"limit must be 1 to {MOST}", "limit"))
    found = sorted(
        (queue_id, place)
        for queue_id, place in (await _places(desk, instance_id)).items()
        if configuration in ("", place)
    )
    messages = []
    for queue_id, place in list(reversed(found))[:limit]:
        event = await _event(desk, instance_id, place, queue_id)
        if event is not None:  # else it became too old at this very moment
            messages.append(_described(event))
    return shown_to(caller, CapturedMessages(messages=tuple(messages), total=len(found)))


@get("/v1/postlane/instances/{instance_id:str}/captured/{queue_id:str}", tags=["captured"])
async def show_captured(
    request: Http, desk: TheDesk, instance_id: InstanceId, queue_id: FromPath[str]
) -> CapturedContent:
    """Return a kept message and how it begins. Not for readers: mail may hold what only its recipient should read."""
    event = await _found(desk, caller_of(request), instance_id, queue_id)
    text = event.mail[:SHOWN_OCTETS].decode("utf-8", "replace")
    return CapturedContent(message=_described(event), text=text, cut=len(event.mail) > SHOWN_OCTETS)


@get("/v1/postlane/instances/{instance_id:str}/captured/{queue_id:str}/eml", tags=["captured"])
async def download_captured(
    request: Http, desk: TheDesk, instance_id: InstanceId, queue_id: FromPath[str]
) -> Response[bytes]:
    """Return the octets of a kept message as they would have been sent. Not for readers."""
    event = await _found(desk, caller_of(request), instance_id, queue_id)
    head = {"Content-Disposition": f'attachment; filename="{event.queue_id}.eml"'}
    return Response(event.mail, media_type="message/rfc822", headers=head)


async def _found(desk: Desk, caller: Caller, instance_id: str, queue_id: str) -> MessageCaptured:
    instance_of(desk.directory, caller, instance_id, write=True)
    parsed = parse_queue_id(queue_id)
    place = (await _places(desk, instance_id)).get(parsed) if parsed is not None else None
    event = await _event(desk, instance_id, place, parsed) if place is not None and parsed is not None else None
    if event is None:
        raise unknown("captured message", queue_id)
    return event


async def _places(desk: Desk, instance: str) -> dict[str, str]:
    """Return the kept messages of an instance: queue ID to configuration."""
    try:
        state = await desk.bus.stream_state(STREAM, f"postlane.captured.{subjects.checked(instance)}.*.*")
    except BusUnavailable as fault:
        raise unavailable("the bus does not answer at the moment; try again") from fault
    parts = (subject.split(".") for subject in state.subjects)
    return {queue_id: configuration for *_, configuration, queue_id in parts}


async def _event(desk: Desk, instance: str, configuration: str, queue_id: str) -> MessageCaptured | None:
    try:
        stored = await desk.bus.last(STREAM, subjects.captured(instance, configuration, queue_id))
    except BusUnavailable as fault:
        raise unavailable("the bus does not answer at the moment; try again") from fault
    return msgspec.json.decode(stored.payload, type=MessageCaptured) if stored is not None else None


def _described(event: MessageCaptured) -> CapturedMessage:
    return CapturedMessage(
        queue_id=event.queue_id,
        configuration=event.configuration,
        at=event.at,
        sender=event.sender,
        recipients=event.recipients,
        size=len(event.mail),
    )


HANDLERS = [list_captured, show_captured, download_captured]
