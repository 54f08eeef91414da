"""Proof that the bus writes each message to disk before it acknowledges it (`sync_interval: always`), and keeps it.

Without the proof ingress is not ready and tells clients 421: a server with its default interval forgets up to two
minutes of acknowledged mail in a power cut.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from services.ingress.core import durability
from shared.bus.client import Bus
from shared.bus.drift import drift
from shared.bus.roll_call import gather
from shared.contract.errors import BusUnavailable
from shared.contract.subjects import SYNC_PROOF, mail_stream

log = logging.getLogger("ingress")

PROMPT_SECONDS = 0.5
"""How long a server that is down is waited for before a majority is taken at its word; the rest is heard afterwards."""
ASK_SECONDS = 3.0
STREAM_SECONDS = 2.0
READ_SECONDS = 2.0
AGAIN_SECONDS = 1.0
INCOMPLETE_SECONDS = 5.0
"""When to ask again while a server has not answered: it may be down, or be slow and not sync."""


async def _at_once(_seconds: float) -> bool:
    return True


class Proof:
    """What is known of the server's durability; checked at the start, at intervals and after each reconnection."""

    def __init__(
        self,
        bus: Bus,
        interval_seconds: float,
        relaxed: bool,
        tell: Callable[[bool, str], None],
        shards: int = 0,
        current: Callable[[float], Awaitable[bool]] = _at_once,
        largest: int = 0,
    ) -> None:
        """Prepare; `tell` is called with the state whenever it is checked.

        `current` waits until what gates rest on was read over this connection: before that no mail is accepted.
        `largest` is the most octets a message can have with its envelope. Relaxed, only syncing is not asked for.
        """
        self._bus = bus
        self._current = current
        self._shards = shards
        self.filled = 0.0
        """How full the fullest server's store was when it was last asked, in percent."""
        self._interval = interval_seconds
        self._complete = False
        """Whether every server was heard."""
        self._relaxed = relaxed
        self._largest = largest
        self._tell = tell
        self._proven = asyncio.Event()
        self._check_now = asyncio.Event()
        self._doubts = 0
        bus.on_reconnect(self._doubt)

    @property
    def holds(self) -> bool:
        """Whether messages may be accepted."""
        return self._proven.is_set()

    async def awaited(self, seconds: float) -> bool:
        """Wait until the proof holds, at most this long."""
        if self.holds:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._proven.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Check for ever."""
        if self._relaxed:
            log.warning("durability is relaxed by a setting: mail answered 250 can be lost in a crash of the bus")
        while True:
            await self.check()
            try:
                async with asyncio.timeout(self._pause()):
                    await self._check_now.wait()
            except TimeoutError:
                pass
            self._check_now.clear()

    def _pause(self) -> float:
        if not self._proven.is_set():
            return AGAIN_SECONDS
        return self._interval if self._complete else min(INCOMPLETE_SECONDS, self._interval)

    async def check(self) -> None:
        """Ask every server once and draw the conclusion."""
        doubts = self._doubts
        if not self._proven.is_set():  # clients wait, and one of three servers that is down must not hold them up
            heard = await self._heard(PROMPT_SECONDS)
            complete = durability.all_heard(heard)
            if complete or self._relaxed or (heard and not durability.doubt(heard)):
                await self._draw(heard, doubts)
                if complete or not self._proven.is_set():
                    return
        await self._draw(await self._heard(ASK_SECONDS), doubts)

    async def _heard(self, seconds: float) -> tuple[durability.Server, ...]:
        try:
            answers = await gather(self._bus, SYNC_PROOF, b'{"config":true}', _complete, seconds, quiet_seconds=0)
        except BusUnavailable:
            answers = []
        return durability.servers(answers)

    async def _draw(self, heard: tuple[durability.Server, ...], doubts: int) -> None:
        self._complete = durability.all_heard(heard)
        if not heard and not self._relaxed:
            if self._proven.is_set() and self._bus.connected:
                log.warning("the bus did not answer the question how it stores")
                return  # proven on this connection; a slow answer changes nothing
            self._conclude(False, "the bus does not answer how it stores messages")
            return
        self.filled = max((server.filled for server in heard), default=self.filled)
        why = self._small() or ("" if self._relaxed else durability.doubt(heard)) or await self._drifted()
        if not why and not await self._current(READ_SECONDS):
            why = "users and domains have not been read again since the bus came back"
        if doubts == self._doubts:  # else that was heard before the connection came again, maybe of another server
            self._conclude(not why, why)

    def _small(self) -> str:
        """Return why the largest message could never be stored, "" if it could."""
        most = self._bus.most_octets
        if most >= self._largest:
            return ""
        return (
            f"the bus takes at most {most} octets at once, and the largest message with its envelope has "
            f"{self._largest}: raise max_payload of nats-server or lower POSTLANE_INGRESS_MESSAGE_BYTES"
        )

    async def _drifted(self) -> str:
        """Return what was changed on the mail streams so that they may lose mail, "" if nothing was."""
        return next(filter(None, await asyncio.gather(*map(self._doubt_of, range(self._shards)))), "")

    async def _doubt_of(self, shard: int) -> str:
        try:
            state = await self._bus.stream_state(mail_stream(shard), timeout_seconds=STREAM_SECONDS)
        except BusUnavailable as fault:
            # What was proven stays so: nothing can be stored there either.
            return "" if self._proven.is_set() and self._bus.connected else str(fault)
        return drift(state.config, self._bus.replicas)

    def _conclude(self, proven: bool, why: str) -> None:
        if proven:
            self._proven.set()
        else:
            self._proven.clear()
        self._tell(proven, why)

    async def _doubt(self) -> None:
        # It may be another server, or the same with another configuration.
        self._doubts += 1
        if self._proven.is_set():
            self._conclude(False, "not proven yet since the bus came back")
        self._check_now.set()


def _complete(answers: Sequence[bytes]) -> bool:
    return durability.all_heard(durability.servers(answers))
