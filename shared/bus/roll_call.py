"""The roll call: every process answers how it is, to whoever may ask."""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec
import nats.errors
from nats.aio.msg import Msg

from shared.bus.client import Bus
from shared.bus.hearing import hearing
from shared.bus.origin import diverted
from shared.contract.errors import UNREADABLE, BusUnavailable
from shared.contract.examination import ROLL_CALL, CallRoll, Finding, Present
from shared.runtime import clock

log = logging.getLogger("bus")

EXAMINATION_SECONDS = 10.0
QUIET_SECONDS = 0.5
"""When every room has answered, replicas get this long after the last answer."""

Examine = Callable[[CallRoll], Awaitable[Sequence[Finding]]]


async def answer_roll_call(bus: Bus, waiting_for: Mapping[str, str], *examinations: Examine) -> None:
    """Answer for as long as the bus lives, with what the process examines of itself."""

    async def present(message: Msg) -> None:
        if diverted(message):
            return
        try:
            call = msgspec.json.decode(message.data, type=CallRoll)
        except msgspec.MsgspecError:
            return
        findings = [_complaint(text) for text in bus.complaints]
        for examine in examinations:
            findings += await _examined(examine, call)
        answer = Present(
            room=bus.room,
            process=f"{socket.gethostname()}:{os.getpid()}",
            at=clock.now(),
            waiting_for=dict(waiting_for),
            findings=tuple(findings),
        )
        try:
            await message.respond(msgspec.json.encode(answer))
        except (nats.errors.Error, OSError):
            log.warning("the roll call could not be answered")

    try:
        await bus.nc.subscribe(ROLL_CALL, cb=present)
    except (nats.errors.Error, OSError) as fault:
        raise BusUnavailable(f"the roll call cannot be heard: {fault}") from fault


async def _examined(examine: Examine, call: CallRoll) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(EXAMINATION_SECONDS):
            return await examine(call)
    except TimeoutError:
        return [Finding(check="examination", state="bad", sentence="an examination did not end in time")]
    except Exception:  # an examination must not end what it examines
        log.exception("an examination failed")
        return [
            Finding(
                check="examination", state="bad", sentence="an examination failed", advice="see the log of the process"
            )
        ]


def _complaint(text: str) -> Finding:
    return Finding(
        check="permissions",
        state="bad",
        sentence=f"the bus refused: {text}",
        advice="the server's configuration is older than this version: write it again, reload nats-server, and run "
        "`postlane provision`",
    )


async def call_roll(bus: Bus, call: CallRoll, expected: Collection[str], seconds: float) -> list[Present]:
    """Ask, and return the answers that come in time; early when every room expected has answered.

    Errors: `BusUnavailable`.
    """

    def enough(answers: Sequence[bytes]) -> bool:
        return set(expected) <= {present.room for present in _read(answers)}

    return _read(await gather(bus, ROLL_CALL, msgspec.json.encode(call), enough, seconds))


def _read(answers: Sequence[bytes]) -> list[Present]:
    return [present for present in map(_present, answers) if present is not None]


class _Somebody(msgspec.Struct, frozen=True):
    """What an answer of every version has."""

    room: str
    process: str
    at: datetime


def _present(answer: bytes) -> Present | None:
    try:
        return msgspec.json.decode(answer, type=Present)
    except UNREADABLE:
        pass
    try:
        somebody = msgspec.json.decode(answer, type=_Somebody)
    except UNREADABLE as fault:
        log.warning("somebody answers the roll call, and cannot be understood: %s", fault)
        return None
    finding = Finding(
        check="version", state="warning", sentence="it answers in words of a later version, and is not examined further"
    )
    return Present(room=somebody.room, process=somebody.process, at=somebody.at, waiting_for={}, findings=(finding,))


async def gather(
    bus: Bus,
    subject: str,
    body: bytes,
    enough: Callable[[Sequence[bytes]], bool],
    seconds: float,
    quiet_seconds: float = QUIET_SECONDS,
) -> list[bytes]:
    """Ask everybody on a subject, and return the answers of at most so many seconds.

    Once there are enough, more are waited for only until it is quiet for `quiet_seconds`; 0 ends it at once.

    Errors: `BusUnavailable` if it cannot be asked; that nobody answers is an empty list.
    """
    found: list[bytes] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    async with hearing(bus, (inbox := bus.nc.new_inbox(),)) as answers:
        try:
            await bus.nc.publish(subject, body, reply=inbox)
        except (nats.errors.Error, OSError) as fault:
            raise BusUnavailable(f"{subject} cannot be asked: {fault}") from fault
        while (left := until - loop.time()) > 0:
            done = enough(found)
            if done and not quiet_seconds:
                break
            answer = await answers.next(min(left, quiet_seconds) if done else left)
            if answer is None or not answer[1]:  # nothing more in time, or nobody listens there
                break
            found.append(answer[1])
    return found
