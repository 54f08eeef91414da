"""One connection to the bus: how it comes, goes and comes again, and what is said over it outside of streams.

Nothing is buffered while it is down: a publish then fails at once and its caller decides. No answer means that the
outcome is unknown (`BusUnavailable`), never that nothing happened.
"""

import asyncio
import contextlib
import json
import logging
import random
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.acknowledgements import NO_RESPONDERS, Acknowledgements
from shared.bus.link import Link
from shared.bus.origin import diverted
from shared.bus.settings import BusSettings
from shared.contract.errors import BusUnavailable

log = logging.getLogger("bus")

COMPLAINTS = 5


class Connection:
    """A room's connection; `open` comes first, whoever opened it closes it."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.epoch = 0  # changes whenever the connection goes or comes
        self.nc = Link()
        self._acks = Acknowledgements(self.nc)
        self._closing = False
        self._reconnected: list[Callable[[], Awaitable[None]]] = []
        self._watchers: list[Callable[[bool], None]] = []
        self._moved = asyncio.Event()
        self._said: set[str] = set()  # of the trials to connect again, since the connection was lost
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)
        """Permissions the server refused lately, in its own words."""

    async def open(self, settings: BusSettings) -> None:
        """Connect, waiting for as long as the bus is away.

        Errors: `BusUnavailable` at once if the credentials are refused: waiting would not help.
        """
        user = settings.user or self.room

        async def failed(fault: Exception) -> None:
            if self.epoch:
                await self._on_error(fault)
            else:  # the library tries again by itself, for ever; only what is raised here makes it stop
                self._tried(settings.url, user, fault)

        delay = 0.2
        servers = settings.url.split(",")
        random.shuffle(servers)  # so that rooms spread over them
        while True:
            try:
                await self.nc.connect(
                    servers,
                    dont_randomize=True,  # from a server that hangs to the next, not perhaps to the same again
                    name=self.room,
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
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    error_cb=failed,
                )
                break
            except BusUnavailable:
                await self.close()
                raise
            except (nats.errors.Error, OSError, TimeoutError) as fault:
                self._tried(settings.url, user, fault)
                await asyncio.sleep(delay)
                delay = min(delay * 1.5, 3.0)
                self.nc = Link()
                self._acks = Acknowledgements(self.nc)
        self.epoch = 1
        self._said.clear()
        self._tell(True)

    @property
    def connected(self) -> bool:
        """Whether the server can be reached right now."""
        return bool(self.nc.is_connected)

    @property
    def most_octets(self) -> int:
        """How large a payload the server takes."""
        return int(self.nc.max_payload)

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
        self._said.clear()
        log.info("connected to the bus again")
        for callback in self._reconnected:
            await callback()
        self._tell(True)

    def _tried(self, url: str, user: str, fault: Exception) -> None:
        """Say once what the first connection waits for.

        Errors: `BusUnavailable` if the credentials are refused.
        """
        text = str(fault) or type(fault).__name__
        if isinstance(fault, BusUnavailable):
            raise fault
        if "authorization" in text.lower():
            raise BusUnavailable(
                f"the bus refuses user {user!r}: check POSTLANE_BUS_USER and POSTLANE_BUS_PASSWORD"
            ) from fault
        if not self._said:
            log.warning("waiting for the bus at %s: %s", url, text)
            self._said.add(text)

    async def _on_error(self, fault: Exception) -> None:
        # A permission violation shows only here; whoever asked sees a time-out.
        text = str(fault) or type(fault).__name__
        if text not in self._said:
            log.error("the bus reports: %s", text)
        if not self.connected:  # each trial to connect fails alike, every second for as long as it takes
            self._said.add(text)
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
        return bytes((await self.ask(subject, body, timeout_seconds)).data)

    async def ask(
        self, subject: str, body: bytes, timeout_seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask and wait for the one answer, with its headers.

        Errors: `BusUnavailable` if nobody answers in time.
        """
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

    async def close(self) -> None:
        """End the connection after what is under way has been written."""
        self._closing = True
        if not await self.reached():
            self.nc.let_go()
        with contextlib.suppress(nats.errors.Error, OSError):  # lost: nothing can be written over it any more
            await self.nc.close()


async def unsubscribe(subscription: Subscription) -> None:
    """End a subscription; harmless if the connection is gone."""
    with contextlib.suppress(nats.errors.Error, OSError):  # the server forgets it with the connection
        await subscription.unsubscribe()
