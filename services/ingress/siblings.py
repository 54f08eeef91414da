"""Failed logins shared between ingress processes: guessing gains nothing from going round the replicas.

Each process tells the others its worst counts, once a second if they have grown.
"""

import asyncio
import secrets
from datetime import timedelta

from services.ingress.core.patience import Patience
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.siblings import LoginFailures
from shared.runtime import clock

SHARE_SECONDS = 1.0
KEYS_TOLD = 500
HALF_LIVES_KEPT = 20
"""Age, in half-lives, after which the entry of a process that has died is removed."""


class Siblings:
    """Keeps our entry of the bucket `logins` and takes up those of others."""

    def __init__(self, bus: Bus, patience: Patience, half_life_seconds: float) -> None:
        """Share what `patience` counts."""
        self._process = secrets.token_hex(8)
        self._patience = patience
        self._kept = timedelta(seconds=half_life_seconds * HALF_LIVES_KEPT)
        self._bucket: Bucket[LoginFailures] = Bucket(bus, "logins", LoginFailures)
        self._replica: Replica[LoginFailures] = Replica(bus, "logins", LoginFailures, self._changed)
        self._told: dict[str, float] = {}

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load what the others have told and begin to tell."""
        await self._replica.start(tasks)
        tasks.create_task(self._tell(), name="failed logins for the siblings")

    async def leave(self) -> None:
        """Take our entry away."""
        if self._told:
            try:
                await self._bucket.delete(self._process)
            except (BusUnavailable, StoreFull):
                return  # the siblings will remove it as that of a process that has died

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SHARE_SECONDS)
            failures = self._patience.worst(KEYS_TOLD, loop.time())
            try:
                # Counts that have only faded need not be told again: the others let them fade too.
                if any(count > self._told.get(key, 0.0) for key, count in failures.items()):
                    record = LoginFailures(process=self._process, at=clock.now(), failures=failures)
                    await self._bucket.put(self._process, record)
                self._told = failures
                await self._bury()
            except (BusUnavailable, StoreFull):
                continue

    async def _bury(self) -> None:
        now = clock.now()
        for key, record in list(self._replica.items()):
            if now - record.at > self._kept:
                await self._bucket.delete(key)

    def _changed(self, key: str, record: LoginFailures | None) -> None:
        if key == self._process:
            return
        now = asyncio.get_running_loop().time()
        age = (clock.now() - record.at).total_seconds() if record is not None else 0.0
        self._patience.heard(key, record.failures if record is not None else None, now - max(0.0, age))
