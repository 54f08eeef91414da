"""Makes a message durable: one publish, repeated with the same queue ID until the bus has it on disk, or a deadline.

Whether a publish that was not answered has stored the message is unknown, so it is never given up early and never
answered 250 on a guess.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal

from services.ingress.proof import Proof
from services.ingress.settings import IngressSettings
from shared.bus.client import Bus
from shared.bus.notes import Notes
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.siblings import Withdrawal
from shared.contract.subjects import Place, mail_stream
from shared.runtime import clock

log = logging.getLogger("ingress")

Outcome = Literal["stored", "full", "unknown"]
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
WITHDRAWAL_SECONDS = 60.0
STALLED_SECONDS = 60.0
"""How long a stream that did not answer counts as stalled, unless it stores again or the server is another."""
LAST_SECONDS = 0.5
"""Time for the bus to answer once the process has no more time."""
UNANSWERED = "the bus did not say in time whether it was stored, and the client was told to send it again"


class Budget:
    """Octets of messages in flight, in all and per user; what does not fit is told 452."""

    def __init__(self, octets: int, octets_per_user: int) -> None:
        """Start with everything free."""
        self._total = octets
        self._per_user = octets_per_user
        self._of_user: Counter[str] = Counter()
        self.used = 0

    def has_room(self, user: str, octets: int) -> bool:
        """Whether a user could take so many octets now."""
        return self.used + octets <= self._total and self._of_user[user] + octets <= self._per_user

    def take(self, user: str, octets: int) -> bool:
        """Reserve octets; False if there is no room."""
        if not self.has_room(user, octets):
            return False
        self.used += octets
        self._of_user[user] += octets
        return True

    def give(self, user: str, octets: int) -> None:
        """Return reserved octets."""
        self.used -= octets
        self._of_user[user] -= octets
        if self._of_user[user] <= 0:
            del self._of_user[user]


class Spool:
    """The way into the mail streams."""

    def __init__(
        self,
        bus: Bus,
        proof: Proof,
        settings: IngressSettings,
        shards: int,
        tell: Callable[[bool, str], None] = lambda _well, _why: None,
    ) -> None:
        """Store through `bus` while `proof` holds; `tell` hears when a stream stalls, and when none does any more."""
        self._bus = bus
        self._tell = tell
        self._stalled: dict[int, float] = {}
        self._proof = proof
        self._deadline = settings.store_seconds
        self._attempt = settings.store_attempt_seconds
        self._percent = settings.storage_percent
        self._interval = settings.storage_check_seconds
        self._filled: set[int] = set()
        self._withdrawn: Notes[Withdrawal] = Notes(bus, "withdrawn", Withdrawal, WITHDRAWAL_SECONDS)
        self._under_way: set[asyncio.Task[object]] = set()
        self._over = False
        self.shards = shards
        self.budget = Budget(settings.in_flight_bytes, settings.in_flight_bytes_per_user)

    async def store(self, place: Place, payload: bytes, *, again: bool = False) -> Outcome:
        """Store a message; "stored" only after the PubAck of its stream. `again`: or if it lies there already.

        Must run to its end even if the client is gone: a half-done commit is nobody's.
        """
        if place.shard in self._filled or self._proof.filled >= self._percent:
            return "full"
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a message is stored outside of a task")
        self._under_way.add(task)
        try:
            return await self._store(place, payload, again)
        except asyncio.CancelledError:
            if not self._over:
                raise
            task.uncancel()
            return "unknown"
        finally:
            self._under_way.discard(task)

    def give_up(self) -> None:
        """Wait for the bus no longer: whoever still hears of it is told that nobody knows, and sends it again."""
        self._over = True
        for task in self._under_way:
            task.cancel()

    async def _store(self, place: Place, payload: bytes, again: bool) -> Outcome:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (LAST_SECONDS if self._over else self._deadline)
        pause, doubtful = FIRST_PAUSE_SECONDS, False
        while (left := deadline - loop.time()) > 0:
            if not await self._proof.awaited(left):
                break
            try:
                await self._bus.store(
                    place.ready,
                    payload,
                    stream=place.mail_stream,
                    message_id=place.queue_id,
                    expected_last=0 if again else None,
                    timeout_seconds=min(self._attempt, max(0.1, deadline - loop.time())),
                )
            except StoreFull:
                return "unknown" if doubtful else "full"  # an earlier try may have been stored
            except WrongSequence:
                return "stored"
            except BusUnavailable as fault:
                doubtful = True
                log.warning("not acknowledged yet, storing again: %s", fault, extra={"queue_id": place.queue_id})
                await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                if self._stalled:
                    self._moves(place.shard)
                return "stored"
        if doubtful and self._bus.connected:
            self._stall(place.shard)
        return "unknown"

    def _stall(self, shard: int) -> None:
        """Note a stream that answers nothing on a connection that lives: after a fault of its disk it stays so."""
        why = f"mail stream {shard} stores nothing although the bus is connected; see to its disk, restart nats-server"
        if shard not in self._stalled:
            log.error(why)
        self._stalled[shard] = asyncio.get_running_loop().time()
        self._tell(False, why)

    def _moves(self, shard: int) -> None:
        self._stalled.pop(shard, None)
        if not self._stalled:
            self._tell(True, "")

    async def _afresh(self) -> None:
        for shard in list(self._stalled):
            self._moves(shard)

    def withdraw(self, place: Place) -> None:
        """Have delivery leave a message alone that may have been stored although its client was told 451.

        Told when the bus is there again; a worker may have been quicker.
        """
        self._withdrawn.note(place.queue_id, Withdrawal(at=clock.now(), reason=UNANSWERED))

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to tell what is withdrawn, and to look at the fill of the streams."""
        self._withdrawn.start(tasks)
        self._bus.on_reconnect(self._afresh)
        tasks.create_task(self.watch_fill(), name="fill of the mail streams")

    async def leave(self) -> None:
        """Tell what is left to tell."""
        await self._withdrawn.leave()

    async def watch_fill(self) -> None:
        """Look at the fill of the mail streams for ever."""
        while True:
            for shard, since in list(self._stalled.items()):
                if asyncio.get_running_loop().time() - since >= STALLED_SECONDS:
                    self._moves(shard)  # without mail nobody would ever find out
            for shard in range(self.shards):
                try:
                    state = await self._bus.stream_state(mail_stream(shard))
                except BusUnavailable:
                    continue
                full = state.max_bytes > 0 and state.bytes * 100 >= state.max_bytes * self._percent
                if full and shard not in self._filled:
                    log.error("mail stream %d is over %d %% full, new mail is told 452", shard, self._percent)
                    self._filled.add(shard)
                elif not full and shard in self._filled:
                    log.info("mail stream %d has room again", shard)
                    self._filled.discard(shard)
            await asyncio.sleep(self._interval)
