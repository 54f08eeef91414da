"""A room's way to the bus: its connection, and the streams read and written over it without a consumer."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import nats.errors

from shared.bus.acknowledgements import Pending
from shared.bus.connection import Connection, unsubscribe
from shared.bus.origin import EXPECTED
from shared.bus.settings import BusSettings
from shared.bus.stored import Stored, StreamState, of_direct_get, of_leader
from shared.contract.errors import BusUnavailable

SCAN_BATCH = 500
SCAN_BYTES = 16 << 20
SCAN_SECONDS = (1.0, 2.0, 5.0)
"""How long a scan waits for the next message before it asks again: a server that hangs may have been asked."""
_NO_MESSAGE = 10037


class Bus(Connection):
    """One connection, owned by a room's `app.py`, which closes it."""

    def __init__(self, room: str, replicas: int = 1) -> None:
        super().__init__(room)
        self.replicas = replicas

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
        head[EXPECTED] = stream
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
        head = {EXPECTED: stream, "Nats-Msg-Id": message_id}
        return await self._acks.publish(subject, payload, stream, head)

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, always as new as its last PubAck.

        Errors: `BusUnavailable`.
        """
        if self.replicas > 1:  # a direct get may be answered by a follower that lags
            return await self.last_of_leader(stream, subject)
        answer = await self.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", 5)
        status = (answer.headers or {}).get("Status")
        if status == "404":
            return None
        if status is not None:
            said = (answer.headers or {}).get("Description", "")
            raise BusUnavailable(f"stream {stream}: {status} {said}".rstrip())
        return of_direct_get(answer, stream)

    async def last_of_leader(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, or of a pattern, as the stream's leader has it.

        Errors: `BusUnavailable`.
        """
        answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        if error := answer.get("error"):
            if error.get("err_code") == _NO_MESSAGE:
                return None
            raise BusUnavailable(f"stream {stream}: {error.get('description')}")
        return of_leader(answer["message"], stream)

    async def scan(
        self, stream: str, subject_filter: str, start: int = 1, batch: int = SCAN_BATCH
    ) -> AsyncGenerator[Stored, None]:
        """Yield the messages of a stream in order, from sequence `start` on, asked for by `batch`; needs no consumer.

        Errors: `BusUnavailable` if the server stops answering midway.
        """
        unanswered = 0
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
                    message = await subscription.next_msg(timeout=SCAN_SECONDS[unanswered])
                    unanswered = 0
                    status = (message.headers or {}).get("Status")
                    if status == "204":  # end of this batch
                        pending = int((message.headers or {}).get("Nats-Num-Pending", "0"))
                        break
                    if status == "404":  # nothing from here on
                        return
                    if status is not None:  # 503: nobody answers for the stream now, which does not mean it is empty
                        raise nats.errors.Error(f"the answer was {status}")
                    item = of_direct_get(message, stream)
                    start, found = item.sequence + 1, True
                    yield item
            except (nats.errors.Error, OSError) as fault:
                unanswered += 1
                if not isinstance(fault, nats.errors.TimeoutError) or unanswered == len(SCAN_SECONDS):
                    raise BusUnavailable(f"the scan of {stream} stopped: {fault}") from fault
                continue
            finally:
                await unsubscribe(subscription)
            if pending == 0 or not found:
                return

    async def remove(self, stream: str, sequence: int) -> bool:
        """Delete one message of a stream; False if it is not there.

        Errors: `BusUnavailable`.
        """
        answer = await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        return bool(answer.get("success"))

    async def stream_state(self, stream: str, subjects_filter: str = "", timeout_seconds: float = 5) -> StreamState:
        """Return a stream's size, with counts per subject if a filter is given (paged through to the end).

        Errors: `BusUnavailable`.
        """
        subjects: dict[str, int] = {}
        while True:
            body = {"subjects_filter": subjects_filter, "offset": len(subjects)} if subjects_filter else None
            answer = await self.api(f"STREAM.INFO.{stream}", body, timeout_seconds)
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


async def connect(settings: BusSettings, room: str) -> Bus:
    """Connect a room, waiting for as long as the bus is away.

    Errors: `BusUnavailable` at once if the credentials are refused: waiting would not help.
    """
    bus = Bus(room, settings.replicas)
    await bus.open(settings)
    return bus
