"""What the clients of a configuration do, live: logins, refusals, accepted mail. For whoever sets one up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import QueryParameter
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage
from msgspec import Meta

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.masks import event_shown_to
from services.control.api.messages import BEAT_SECONDS
from services.control.api.onboarding import ONE
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import Caller, configuration_of
from services.control.core.watching import Said, Watched, concerns, listening
from services.control.refusal import unavailable
from shared.bus.hearing import Hearing, hearing
from shared.contract.errors import BusUnavailable
from shared.contract.records import User


@get(ONE + "/clients/events", tags=["onboarding"])
async def watch_clients(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    seconds: Annotated[int, Meta(ge=1, le=3600), QueryParameter(description="how long to watch")] = 300,
) -> ServerSentEvent:
    """Stream what clients of the configuration do from now on; each `data` is one JSON record.

    The first event, `watching`, says that nothing is missed from here on. Operators also see clients that have not
    shown yet whose they are.
    """
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    watched = Watched(
        instance=found.instance,
        configuration=found.id,
        usernames=frozenset(user.username for user in desk.directory.all(f"user.{found.id}.", User)),
        strangers=caller.is_operator,
    )
    if not desk.bus.connected:
        raise unavailable("the bus cannot be reached")
    return ServerSentEvent(_events(desk, caller, watched, min(seconds, desk.settings.follow_seconds)))


async def _events(
    desk: Desk, caller: Caller, watched: Watched, seconds: float
) -> AsyncIterator[ServerSentEventMessage]:
    try:
        async with hearing(desk.bus, listening(watched)) as heard:
            yield ServerSentEventMessage(data="{}", event="watching")
            async for name, event in _concerning(heard, watched, seconds):
                if event:
                    yield ServerSentEventMessage(data=event_shown_to(caller, event).decode(), event=name)
                else:
                    yield ServerSentEventMessage(data=None, comment="waiting")
    except BusUnavailable:
        return  # the watcher sees the stream end, and asks again


async def _concerning(heard: Hearing, watched: Watched, seconds: float) -> AsyncIterator[tuple[str, bytes]]:
    """Yield name and record of each event that concerns the watched, an empty one when there was none for long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0:
        message = await heard.next(min(left, BEAT_SECONDS))
        if message is None:
            yield "", b""
            continue
        subject, body = message
        if concerns(watched, msgspec.json.decode(body, type=Said)):
            yield subject.split(".")[1], body


HANDLERS = [watch_clients]
