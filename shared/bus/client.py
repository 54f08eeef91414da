"""A room's connection to the bus.

Nothing is buffered while the connection is down: a publish then fails at once and its caller decides. No answer
means that the outcome is unknown (`BusUnavailable`), never that nothing happened.
"""

import asyncio
import base64
import contextlib
import email.parser
import json
import logging
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus.acknowledgements import NO_RESPONDERS, Acknowledgements, Pending
from shared.bus.origin import diverted
from shared.bus.settings import BusSettings
from shared.contract.errors import BusUnavailable

log = logging.getLogger("bus")

SCAN_BATCH = 500
COMPLAINTS = 5
SCAN_BYTES = 16 << 20
_NO_MESSAGE = 10037


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in a stream."""

    subject: str
    sequence: int
    at: datetime
    payload: bytes
    headers: dict[str, str]


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """Size of a stream; `subjects` counts messages per subject if a filter was given."""

    messages: int
    bytes: int
    first_sequence: int
    last_sequence: int
    subjects: dict[str, int]
    max_bytes: int
    config: dict[str, Any]  # as the server tells it
    created: str
    """When this stream was made, as the server writes it: another value is another life, with sequences from 1."""


class Bus:
    """One connection, owned by a room's `app.py`, which closes it."""

    def __init__(self, room: str, replicas: int = 1) -> None:
        self.room = room
        self.replicas = replicas
        self.epoch = 0  # changes whenever the connection goes or comes
        self.nc: Client = Client()
        self._acks = Acknowledgements(self.nc)
        self._closing = False
        self._reconnected: list[Callable[[], Awaitable[None]]] = []
        self._watchers: list[Callable[[bool], None]] = []
        self._moved = asyncio.Event()
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)
        """Permissions the server refused lately, in its own words."""

    @property
    def connected(self) -> bool:
        """Whether the server can be reached right now."""
        return bool(self.nc.is_connected)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended for good: trying again is of no use."""
        return self._closing or bool(self.nc.is_closed)

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call back after each re-connection, for what must be read again."""
        self._reconnected.append(callback)

    def on_connection(self, callback: Callable[[bool], None]) -> None:
        """Call back now and whenever the connection comes or goes, for readiness."""
        self._watchers.append(callback)
        callback(self.connected)

    async def moved(self) -> None:
        """Wait until the connection next comes or goes."""
        await self._moved.wait()

    def _tell(self, connected: bool) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        for watcher in self._watchers:
            watcher(connected)

    async def _on_disconnected(self) -> None:
        if self._closing:
            return
        self.epoch += 1
        log.warning("the connection to the bus is lost, reconnecting")
        self._tell(False)

    async def _on_reconnected(self) -> None:
        self.epoch += 1
        log.info("connected to the bus again")
        for callback in self._reconnected:
            await callback()
        self._tell(True)

    async def _on_error(self, fault: Exception) -> None:
        # A permission violation shows only here; whoever asked sees a time-out.
        if self.epoch:  # before the first connection `connect` itself says what it waits for
            log.error("the bus reports: %s", fault)
        if "permissions violation" in str(fault).lower() and str(fault) not in self.complaints:
            self.complaints.append(str(fault))

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish at most once; a lost connection is not an error here."""
        try:
            await self.nc.publish(subject, body)
        except (nats.errors.Error, OSError):
            log.warning("not published, the bus is away", extra={"subject": subject})

    async def listen(self, subject: str, callback: Callable[[str, bytes], Awaitable[None]]) -> None:
        """Subscribe for as long as the bus lives, to what is published there (`shared.bus.origin`)."""

        async def on_message(message: Msg) -> None:
            if not diverted(message):
                await callback(message.subject, message.data)

        await self.nc.subscribe(subject, cb=on_message)

    async def request(self, subject: str, body: bytes, timeout_seconds: float = 5) -> bytes:
        """Ask and wait for the one answer.

        Errors: `BusUnavailable` if nobody answers in time.
        """
        return bytes((await self._ask(subject, body, timeout_seconds)).data)

    async def _ask(
        self, subject: str, body: bytes, timeout_seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        answer = await (await self._acks.publish(subject, body, "", headers)).answered(timeout_seconds)
        if answer.headers and answer.headers.get("Status") == NO_RESPONDERS and not answer.data:
            raise BusUnavailable(f"nobody answers on {subject}: is that service running?")
        return answer

    async def api(self, call: str, body: dict[str, Any] | None = None, timeout_seconds: float = 5) -> dict[str, Any]:
        """Call the JetStream API; the answer may hold `error`.

        Errors: `BusUnavailable`.
        """
        payload = json.dumps(body).encode() if body is not None else b""
        answer: dict[str, Any] = json.loads(await self.request(f"$JS.API.{call}", payload, timeout_seconds))
        return answer

    async def reached(self, timeout_seconds: float = 5) -> bool:
        """Return whether the server has received everything sent so far."""
        try:
            async with asyncio.timeout(timeout_seconds):
                # A PING of the client overtakes what still waits to be written. When its PONG is here that is written,
                # and only the PONG of a second one tells that it was received.
                await self.nc.flush(max(1, round(timeout_seconds)))
                await self.nc.flush(max(1, round(timeout_seconds)))
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    async def store(
        self,
        subject: str,
        payload: bytes,
        *,
        stream: str,
        message_id: str = "",
        expected_last: int | None = None,
        schedule_at: datetime | None = None,
        schedule_target: str = "",
        rollup: bool = False,
        headers: dict[str, str] | None = None,
        timeout_seconds: float = 5,
    ) -> int:
        """Publish into a stream once; return the sequence after the PubAck of that very stream.

        `expected_last` is the sequence the subject must end with (0: it must be empty).

        Errors: `BusUnavailable` if the outcome is unknown: repeat the same. `StoreFull`, `WrongSequence`: not stored.
        """
        head = dict(headers or {})
        head["Nats-Expected-Stream"] = stream
        if message_id:
            head["Nats-Msg-Id"] = message_id
        if expected_last is not None:
            head["Nats-Expected-Last-Subject-Sequence"] = str(expected_last)
        if schedule_at is not None:
            head["Nats-Schedule"] = f"@at {schedule_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
            head["Nats-Schedule-Target"] = schedule_target
        if rollup:
            head["Nats-Rollup"] = "sub"
        return await (await self._acks.publish(subject, payload, stream, head)).stored(timeout_seconds)

    async def send(self, subject: str, payload: bytes, *, stream: str, message_id: str) -> Pending:
        """Publish into a stream and leave the PubAck to be waited for: many messages, then their answers.

        Errors: `BusUnavailable` if the connection does not take it.
        """
        head = {"Nats-Expected-Stream": stream, "Nats-Msg-Id": message_id}
        return await self._acks.publish(subject, payload, stream, head)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, always as new as its last PubAck.

        Errors: `BusUnavailable`.
        """
        if self.replicas > 1:  # a direct get may be answered by a follower that lags
            return await self._last_of_leader(stream, subject)
        answer = await self._ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", 5)
        status = (answer.headers or {}).get("Status")
        if status == "404":
            return None
        if status is not None:
            said = (answer.headers or {}).get("Description", "")
            raise BusUnavailable(f"stream {stream}: {status} {said}".rstrip())
        return _stored(answer)

    async def _last_of_leader(self, stream: str, subject: str) -> Stored | None:
        answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        if error := answer.get("error"):
            if error.get("err_code") == _NO_MESSAGE:
                return None
            raise BusUnavailable(f"stream {stream}: {error.get('description')}")
        message = answer["message"]
        head = email.parser.BytesHeaderParser().parsebytes(
            base64.b64decode(message.get("hdrs", "")).partition(b"\r\n")[2]
        )
        return Stored(
            subject=message["subject"],
            sequence=message["seq"],
            at=_time(message["time"]),
            payload=base64.b64decode(message.get("data", "")),
            headers=dict(head.items()),
        )

    async def scan(
        self, stream: str, subject_filter: str, start: int = 1, batch: int = SCAN_BATCH
    ) -> AsyncGenerator[Stored, None]:
        """Yield the messages of a stream in order, from sequence `start` on, asked for by `batch`; needs no consumer.

        Errors: `BusUnavailable` if the server stops answering midway.
        """
        while True:
            inbox = self.nc.new_inbox()
            try:
                subscription = await self.nc.subscribe(inbox)
            except (nats.errors.Error, OSError) as fault:  # the connection was closed meanwhile
                raise BusUnavailable(f"the scan of {stream} could not begin: {fault}") from fault
            request = {"batch": batch, "max_bytes": SCAN_BYTES, "seq": start, "next_by_subj": subject_filter}
            try:
                await self.nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
                pending, found = 0, False
                while True:
                    message = await subscription.next_msg(timeout=5)
                    status = (message.headers or {}).get("Status")
                    if status == "204":  # end of this batch
                        pending = int((message.headers or {}).get("Nats-Num-Pending", "0"))
                        break
                    if status is not None:  # 404: nothing from here on
                        return
                    item = _stored(message)
                    start, found = item.sequence + 1, True
                    yield item
            except (nats.errors.Error, OSError) as fault:
                raise BusUnavailable(f"the scan of {stream} stopped: {fault}") from fault
            finally:
                await _unsubscribe(subscription)
            if pending == 0 or not found:
                return

    async def remove(self, stream: str, sequence: int) -> bool:
        """Delete one message of a stream; False if it is not there.

        Errors: `BusUnavailable`.
        """
        answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        return bool(answer.get("success"))

    async def stream_state(self, stream: str, subjects_filter: str = "") -> StreamState:
        """Return a stream's size, with counts per subject if a filter is given (paged through to the end).

        Errors: `BusUnavailable`.
        """
        subjects: dict[str, int] = {}
        while True:
            body = {"subjects_filter": subjects_filter, "offset": len(subjects)} if subjects_filter else None
            answer = await self.api(f"STREAM.INFO.{stream}", body)
            if "error" in answer:
                raise BusUnavailable(f"stream {stream}: {answer['error']['description']}; run `postlane provision`")
            state = answer["state"]
            page = state.get("subjects") or {}
            subjects.update(page)
            if not page or len(subjects) >= int(answer.get("total", 0)):
                break
        return StreamState(
            messages=state["messages"],
            bytes=state["bytes"],
            first_sequence=state["first_seq"],
            last_sequence=state["last_seq"],
            subjects=subjects,
            max_bytes=answer["config"].get("max_bytes", -1),
            config=answer["config"],
            created=answer["created"],
        )

    async def close(self) -> None:
        """End the connection after what is under way has been written."""
        self._closing = True
        await self.reached()
        await self.nc.close()


async def _unsubscribe(subscription: Any) -> None:
    with contextlib.suppress(nats.errors.Error, OSError):  # the server forgets it with the connection
        await subscription.unsubscribe()


def _stored(message: Msg) -> Stored:
    head = {str(name): str(value) for name, value in (message.headers or {}).items()}
    return Stored(
        subject=head.get("Nats-Subject", ""),
        sequence=int(head.get("Nats-Sequence", "0")),
        at=_time(head.get("Nats-Time-Stamp", "")),
        payload=message.data,
        headers=head,
    )


def _time(text: str) -> datetime:
    """Parse RFC 3339 with nanoseconds, of which microseconds are kept."""
    whole, _, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6].ljust(6, "0") if rest else "000000"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{fraction}+00:00") if whole else datetime.fromtimestamp(0, UTC)


async def connect(settings: BusSettings, room: str) -> Bus:
    """Connect a room, waiting for as long as the bus is away.

    Errors: `BusUnavailable` at once if the credentials are refused: waiting would not help.
    """
    bus = Bus(room, settings.replicas)
    user = settings.user or room
    delay, announced = 0.2, False
    while True:
        try:
            await bus.nc.connect(
                settings.url.split(","),
                name=room,
                user=user,
                password=settings.password.reveal(),
                inbox_prefix=f"_INBOX_{user}",
                allow_reconnect=True,
                max_reconnect_attempts=-1,  # the default gives up for good after 60
                reconnect_time_wait=1,
                ping_interval=settings.ping_seconds,
                max_outstanding_pings=2,
                pending_size=0,  # else a publish made while disconnected is sent later, after its caller gave up
                connect_timeout=2,
                tls=ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None,
                disconnected_cb=bus._on_disconnected,
                reconnected_cb=bus._on_reconnected,
                error_cb=bus._on_error,
            )
            break
        except (nats.errors.Error, OSError, TimeoutError) as fault:
            if isinstance(fault, nats.errors.AuthorizationError) or "authorization" in str(fault).lower():
                raise BusUnavailable(
                    f"the bus refuses user {user!r}: check POSTLANE_BUS_USER and POSTLANE_BUS_PASSWORD"
                ) from fault
            if not announced:
                log.warning("waiting for the bus at %s: %s", settings.url, fault)
                announced = True
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, 3.0)
            bus.nc = Client()
            bus._acks = Acknowledgements(bus.nc)
    bus.epoch = 1
    bus._tell(True)
    return bus
