"""What the workers say of themselves, put together: readiness, and metrics with the worker's number as a label."""

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import Counter, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from shared.runtime.lifecycle import Room

ASK_INTERVAL_SECONDS = 1.0
ANSWER_SECONDS = 5.0


class WorkerPages(Collector):
    """The health pages of all workers as this process shows them; at most one interval old."""

    def __init__(self, room: Room, directory: Path, count: int, answered: Callable[[int], None]) -> None:
        """Show in the room's readiness and registry what workers 1 to `count` answer on their sockets.

        `answered` is told of each worker that answers for the first time since it was started.
        """
        self._room = room
        self._directory = directory
        self._waiting = dict.fromkeys(range(1, count + 1), "starting")
        self._metrics: dict[int, str] = {}
        self._were_ready: set[int] = set()
        self._answering: set[int] = set()
        self._lives = dict.fromkeys(range(1, count + 1), 0)
        """How often each was started again: an answer may come from one that has ended since."""
        self._answered = answered
        room.metrics.register(self)
        self._restarts = Counter(
            "postlane_ingress_worker_restarts_total", "Workers that ended and were started again", registry=room.metrics
        )
        self._show()

    def was_ready(self, number: int) -> bool:
        """Whether a worker has ever taken mail."""
        return number in self._were_ready

    def answers(self, number: int) -> bool:
        """Whether a worker has answered since it was started, and so heeds signals."""
        return number in self._answering

    def ended(self, number: int) -> None:
        """Note that a worker has ended and is started again."""
        self._restarts.inc()
        self._waiting[number] = "it ended and is started again"
        self._metrics.pop(number, None)
        self._answering.discard(number)
        self._lives[number] += 1
        self._show()

    async def follow(self) -> None:
        """Ask the workers for ever."""
        while True:
            for number in self._waiting:
                life = self._lives[number]
                try:
                    state = json.loads(await self._page(number, "/readyz"))
                    self._metrics[number] = (await self._page(number, "/metrics")).decode()
                    self._waiting[number] = "; ".join(f"{what}: {why}" for what, why in state["waiting_for"].items())
                    if number not in self._answering and life == self._lives[number]:
                        self._answering.add(number)
                        self._answered(number)
                except (OSError, TimeoutError, ValueError, KeyError):
                    self._waiting[number] = "it does not answer"
                if not self._waiting[number]:
                    self._were_ready.add(number)
            self._show()
            await asyncio.sleep(ASK_INTERVAL_SECONDS)

    def collect(self) -> Iterable[Metric]:
        """Yield the workers' metrics, told apart by the label `worker`."""
        families: dict[str, Metric] = {}
        ready = Metric("postlane_ingress_worker_ready", "Whether the worker takes mail", "gauge")
        for number, why in self._waiting.items():
            ready.add_sample(ready.name, {"worker": str(number)}, float(not why))
            for family in text_string_to_metric_families(self._metrics.get(number, "")):
                # This process has figures of that name of its own.
                prefix = "worker_" if family.name.startswith("process_") else ""
                name = prefix + family.name
                shown = families.setdefault(name, Metric(name, family.documentation, family.type))
                for sample in family.samples:
                    shown.add_sample(prefix + sample.name, {**sample.labels, "worker": str(number)}, sample.value)
        return [ready, *families.values()]

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: the workers are not asked when this is registered."""
        return []

    def _show(self) -> None:
        some = not all(self._waiting.values())
        self._room.ready("workers", some, "; ".join(f"worker {number}: {why}" for number, why in self._waiting.items()))
        for number, why in self._waiting.items():
            self._room.conditions.remarks[f"worker {number}"] = why or "ready"

    async def _page(self, number: int, path: str) -> bytes:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(self._directory / str(number)))
            try:
                writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return (await reader.read()).partition(b"\r\n\r\n")[2]
            finally:
                writer.close()
