"""Quotas kept by all ingress processes together: each tells the others what it has accepted.

Twice a second, and at once where a quota comes near to its end, though never without a pause.

What a killed process had told stays and counts to the end of its hour and day; at most one interval is forgotten. While
the bus is away each process goes on with what it knows, and no message is accepted anyway.
"""

import asyncio
import secrets
from collections.abc import Iterable

from services.ingress.core import quota
from services.ingress.core.admission import Account, Admitted
from services.ingress.core.quota import Rates, Tally, Told
from services.ingress.core.refusal import Refusal
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.siblings import Spending
from shared.mail import reply
from shared.runtime import clock

UNLIMITED = Rates()
PAUSE_SECONDS = 0.03
"""Between two times of telling."""
BURY_SECONDS = 60.0
"""Interval of looking for entries of past days."""


class Quotas:
    """Answers whether a message may be sent now, and counts those that were; one per process."""

    def __init__(self, bus: Bus, share_seconds: float) -> None:
        """Prepare; `start` begins to share."""
        self._process = secrets.token_hex(8)
        self._interval = share_seconds
        self._tally = Tally()
        self._hurry = asyncio.Event()
        self._bucket: Bucket[Spending] = Bucket(bus, "spending", Spending)
        self._replica: Replica[Spending] = Replica(bus, "spending", Spending, self._changed)

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load what the others have told and begin to tell."""
        await self._replica.start(tasks)
        tasks.create_task(self._share(), name="quotas for the siblings")

    def used_up(self, account: Account, admitted: Admitted) -> Refusal | None:
        """Refuse for now if a quota of the configuration or of its user is used up, or too much is held already."""
        configuration = account.configuration
        cap = configuration.hold_cap
        if admitted.held and self._tally.held(configuration.id, _since(admitted)) >= cap:
            return Refusal(
                reply.HOLD_FULL.with_(domain=configuration.domain),
                f"{cap} messages are held already, the cap of the configuration",
                configuration.instance,
                configuration.id,
            )
        now = _seconds()
        for key, rates in _limits(account, admitted):
            wait = self._tally.wait(key, rates, now)
            if wait is not None:
                whose = "the configuration" if key == configuration.id else f"the user {account.user.username}"
                return Refusal(
                    reply.RATE_LIMITED.with_(quota=wait.quota, seconds=str(wait.seconds)),
                    f"{whose} has used up its quota of {wait.quota}; it starts anew in {wait.seconds} seconds",
                    configuration.instance,
                    configuration.id,
                )
        return None

    def take(self, account: Account, admitted: Admitted) -> Refusal | None:
        """Count a message that is about to be stored, or refuse it for now."""
        refusal = self.used_up(account, admitted)
        if refusal is not None:
            return refusal
        now = _seconds()
        for key, rates in _limits(account, admitted):
            self._tally.take(key, rates, now)
        if admitted.held:
            self._tally.hold(account.configuration.id, _since(admitted), account.configuration.hold_cap)
        if self._tally.hurry:
            self._hurry.set()
        return None

    def give(self, account: Account, admitted: Admitted) -> None:
        """Take the count back: the message was not stored."""
        for key, rates in _limits(account, admitted):
            if rates != UNLIMITED:
                self._tally.give(key)
        if admitted.held:
            self._tally.release(account.configuration.id, _since(admitted))

    async def leave(self) -> None:
        """Tell the last counts; they stay, for the quotas of this hour and day are still ours."""
        await self._tell(self._tally.changed)

    async def _share(self) -> None:
        loop = asyncio.get_running_loop()
        bury_at, tell_at = loop.time(), loop.time() + self._interval
        while True:
            try:
                async with asyncio.timeout_at(tell_at):
                    await self._hurry.wait()
            except TimeoutError:
                tell_at = loop.time() + self._interval
                await self._tell(self._tally.changed)
            else:
                await self._tell(self._tally.hurry)
            if not self._tally.hurry:
                self._hurry.clear()
            if loop.time() >= bury_at:
                bury_at = loop.time() + BURY_SECONDS
                await self._bury()
            await asyncio.sleep(min(PAUSE_SECONDS, self._interval))

    async def _tell(self, parts: Iterable[int]) -> None:
        for part in sorted(parts):
            now = _seconds()
            told = self._tally.told(part, now)
            record = Spending(
                process=self._process,
                at=clock.now(),
                hour=int(now // quota.HOUR),
                day=int(now // quota.DAY),
                this_second=dict(told.this_second),
                this_hour=dict(told.this_hour),
                this_day=dict(told.this_day),
                held=dict(told.held),
            )
            try:
                await self._bucket.put(f"{self._process}.{part}", record)
            except (BusUnavailable, StoreFull):
                self._tally.changed.add(part)  # to be told the next time
                return

    async def _bury(self) -> None:
        today = int(_seconds() // quota.DAY)
        for key, record in list(self._replica.items()):
            if not key.startswith(f"{self._process}.") and record.day < today and not record.held:
                try:
                    await self._bucket.delete(key)
                except (BusUnavailable, StoreFull):
                    return

    def _changed(self, key: str, record: Spending | None) -> None:
        process, _, part = key.partition(".")
        if process == self._process or not part.isdigit() or int(part) >= quota.PARTS:
            return
        told = None
        if record is not None:
            told = Told(record.at.timestamp(), record.this_second, record.this_hour, record.this_day, record.held)
        self._tally.heard(process, int(part), told)


def _limits(account: Account, admitted: Admitted) -> tuple[tuple[str, Rates], ...]:
    own = account.user.messages_per_hour
    limits = (account.configuration.id, admitted.rates)
    return (limits, (account.user.id, Rates(per_hour=own))) if own else (limits,)


def _since(admitted: Admitted) -> str:
    return f"{admitted.held_since:%Y-%m-%dT%H:%M:%S}" if admitted.held_since else ""


def _seconds() -> float:
    return clock.now_ms() / 1000
