"""Requests between rooms over the NATS Services API: discoverable, typed, with stable error codes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
import nats.errors
import nats.micro
from nats.micro.request import Request as MicroRequest

from shared.bus.client import Bus
from shared.bus.origin import diverted
from shared.contract import errors
from shared.contract.errors import BusUnavailable, RequestFailed, StoreFull

log = logging.getLogger("bus")

VERSION = "1.0.0"
T = TypeVar("T")
Handler = Callable[[Any], Awaitable[msgspec.Struct]]


class Service:
    """Endpoints of a room; closed by its owner."""

    def __init__(self, micro: Any) -> None:
        self._micro = micro

    async def close(self) -> None:
        """Stop answering."""
        await self._micro.stop()


async def serve(
    bus: Bus,
    name: str,
    description: str,
    endpoints: Mapping[str, tuple[type, Handler]],
    tasks: asyncio.TaskGroup | None = None,
) -> Service:
    """Answer requests: each subject with its request type and handler.

    Requests of one subject are answered one after the other; with `tasks`, side by side, for handlers that wait long.

    A handler raises `RequestFailed` for errors of the contract; anything else is our fault and answered as such.
    """
    micro = await nats.micro.add_service(bus.nc, name=name, version=VERSION, description=description)
    for subject, (kind, handler) in endpoints.items():
        await micro.add_endpoint(
            name=subject.rsplit(".", 1)[-1], subject=subject, handler=_answering(kind, handler, tasks)
        )
    await bus.reached()  # once this returns, requests are answered
    return Service(micro)


def _answering(
    kind: type, handler: Handler, tasks: asyncio.TaskGroup | None
) -> Callable[[MicroRequest], Awaitable[None]]:
    async def answer(request: MicroRequest) -> None:
        if diverted(request._msg):
            return
        try:
            wish: Any = msgspec.json.decode(request.data, type=kind)
        except errors.UNREADABLE as fault:
            await request.respond_error(str(errors.BAD_REQUEST), f"the request cannot be read: {fault}")
            return
        try:
            await request.respond(msgspec.json.encode(await handler(wish)))
        except RequestFailed as fault:
            await request.respond_error(str(fault.code), fault.message)
        except (BusUnavailable, StoreFull) as fault:
            await request.respond_error(str(errors.NOT_READY), str(fault))
        except Exception:
            log.exception("a request failed", extra={"request": kind.__name__})
            await request.respond_error(str(errors.INTERNAL), "the request failed by our fault; the log has more")

    if tasks is None:
        return answer
    group = tasks

    async def answer_surely(request: MicroRequest) -> None:
        try:
            await answer(request)
        except (nats.errors.Error, OSError) as fault:  # the asker will have given up
            log.warning("a %s could not be answered: %s", kind.__name__, fault)

    async def answer_aside(request: MicroRequest) -> None:
        group.create_task(answer_surely(request), name=f"answer to {kind.__name__}")

    return answer_aside


async def ask(bus: Bus, subject: str, request: msgspec.Struct, reply_type: type[T], timeout_seconds: float = 5) -> T:
    """Ask another room.

    Errors: `RequestFailed` with the code it answered, `BusUnavailable` if it does not answer, or in words of a later
    version: whether the act took effect is unknown then too.
    """
    answer = await bus.ask(subject, msgspec.json.encode(request), timeout_seconds)
    head = answer.headers or {}
    if code := head.get("Nats-Service-Error-Code"):
        raise RequestFailed(int(code), head.get("Nats-Service-Error", "the request failed"))
    try:
        return msgspec.json.decode(answer.data, type=reply_type)
    except errors.UNREADABLE as fault:
        raise BusUnavailable(f"the answer on {subject} cannot be read: {fault}") from fault
