"""Answers to control's questions about messages and refusals, over the bus."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.tracker.core import explain, rollup
from services.tracker.core.explain import Situation
from services.tracker.core.rows import recipient_state
from services.tracker.core.timeline import timeline
from services.tracker.database import DatabaseAway
from services.tracker.reading import Known, Reading
from services.tracker.shape import shape
from services.tracker.store import Store
from shared.contract import errors, requests
from shared.contract.errors import RequestFailed
from shared.contract.events import SubmissionRefused
from shared.contract.requests import (
    BouncesFound,
    CountMessages,
    DescribeMessage,
    DescribeRefusal,
    ListBounces,
    MessageCounts,
    MessageDescription,
    MessagesFound,
    QueueShape,
    RefusalDescription,
    SearchMessages,
    ShapeQueue,
)
from shared.contract.standing import Standing
from shared.mail.ids import parse_queue_id, parse_reference
from shared.runtime import clock

SEARCH_LIMIT = 500
OFFSET_LIMIT = 100_000

Handler = Callable[[Any], Awaitable[msgspec.Struct]]


class Queries:
    """Answers from the database; a foreign message answers exactly like one that does not exist."""

    def __init__(
        self,
        store: Store,
        standing_of: Callable[[str], Standing | None],
        missing_since: Callable[[str], datetime | None],
    ) -> None:
        self._store = store
        self._reading = Reading(store)
        self._standing_of = standing_of
        self._missing_since = missing_since

    def endpoints(self) -> dict[str, tuple[type, Handler]]:
        """Return what `shared.bus.service.serve` takes: subjects with request types and handlers."""
        return {
            requests.MESSAGE: (DescribeMessage, self.describe),
            requests.SEARCH: (SearchMessages, self.search),
            requests.REFUSAL: (DescribeRefusal, self.refusal),
            requests.COUNT: (CountMessages, self.count),
            requests.BOUNCES: (ListBounces, self.bounces),
            requests.SHAPE: (ShapeQueue, self.shape),
        }

    async def describe(self, wish: DescribeMessage) -> MessageDescription:
        """Tell all that is known of a message."""
        queue_id = parse_queue_id(wish.queue_id)
        known = await self._ask(self._reading.message, queue_id, wish.instances) if queue_id is not None else None
        if known is None:
            raise RequestFailed(
                errors.MESSAGE_UNKNOWN, "no message with this queue ID is known; check it for a typing error"
            )
        return self._description(known)

    def _description(self, known: Known) -> MessageDescription:
        row = known.row
        states = tuple(recipient_state(recipient) for recipient in known.recipients)
        situation = Situation(
            status=row.status,
            accepted_at=row.accepted_at,
            updated_at=row.updated_at,
            recipients=states,
            attempt=row.attempt,
            next_attempt_at=row.next_attempt_at,
            expires_at=row.expires_at,
            explanation=row.explanation,
            reason=row.reason,
            by=row.by,
            missing_since=self._missing_since(row.queue_id),
        )
        return MessageDescription(
            queue_id=row.queue_id,
            instance=row.instance,
            configuration=row.configuration,
            status=row.status,
            sender=row.sender,
            size=row.size,
            message_id=row.message_id,
            subject=row.subject,
            accepted_at=row.accepted_at,
            updated_at=row.updated_at,
            recipients=states,
            why=explain.why(situation, self._standing_of(row.configuration), clock.now()),
            timeline=timeline(known.events),
            next_attempt_at=row.next_attempt_at,
            user=row.username or row.user,
            client_address=row.client_address,
        )

    async def shape(self, wish: ShapeQueue) -> QueueShape:
        """Count unfinished recipients by destination and age."""
        if not 1 <= wish.limit <= SEARCH_LIMIT:
            raise RequestFailed(errors.BAD_REQUEST, f"limit must be from 1 to {SEARCH_LIMIT}")
        found: QueueShape = await self._ask(shape, self._store.engine, wish, clock.now())
        return found

    async def search(self, wish: SearchMessages) -> MessagesFound:
        """Find messages, newest first."""
        if not 1 <= wish.limit <= SEARCH_LIMIT:
            raise RequestFailed(errors.BAD_REQUEST, f"limit must be from 1 to {SEARCH_LIMIT}")
        if not 0 <= wish.offset <= OFFSET_LIMIT:
            raise RequestFailed(errors.BAD_REQUEST, f"offset must be from 0 to {OFFSET_LIMIT}; narrow the search")
        found, total = await self._ask(self._reading.search, wish)
        return MessagesFound(messages=tuple(found), total=total)

    async def refusal(self, wish: DescribeRefusal) -> RefusalDescription:
        """Look a refusal up by the reference the client was given."""
        reference = parse_reference(wish.reference)
        body = await self._ask(self._reading.refusal, reference, wish.instances) if reference is not None else None
        if body is None:
            unknown = "no refusal with this reference is known (of a flood, not each is kept)"
            raise RequestFailed(errors.REFERENCE_UNKNOWN, unknown)
        sentence = explain.refusal(msgspec.json.decode(body, type=SubmissionRefused))
        return RefusalDescription(sentence=sentence, event=msgspec.Raw(body))

    async def bounces(self, wish: ListBounces) -> BouncesFound:
        """List the recipients of a configuration that were given up."""
        if not (1 <= wish.limit <= SEARCH_LIMIT and 0 <= wish.offset <= OFFSET_LIMIT):
            raise RequestFailed(
                errors.BAD_REQUEST, f"limit must be from 1 to {SEARCH_LIMIT}, offset from 0 to {OFFSET_LIMIT}"
            )
        wish = msgspec.structs.replace(wish, since=_aware(wish.since), until=_aware(wish.until))
        found, total = await self._ask(self._reading.bounces, wish)
        return BouncesFound(bounces=tuple(found), total=total)

    async def count(self, wish: CountMessages) -> MessageCounts:
        """Count a configuration's recipients by buckets of time."""
        since, until = _aware(wish.since), _aware(wish.until)
        if wish.bucket_seconds < 1:
            raise RequestFailed(errors.BAD_REQUEST, "bucket_seconds must be at least 1")
        if (until - since).total_seconds() / wish.bucket_seconds > rollup.BUCKETS_LIMIT:
            raise RequestFailed(
                errors.BAD_REQUEST, f"that is more than {rollup.BUCKETS_LIMIT} buckets; make them wider"
            )
        wish = msgspec.structs.replace(wish, since=since, until=until)
        tallies = await self._ask(self._reading.tallies, wish)
        return MessageCounts(buckets=rollup.buckets(since, until, wish.bucket_seconds, tallies))

    async def _ask(self, question: Callable[..., Any], *arguments: object) -> Any:
        try:
            return await self._store.run(question, *arguments)
        except DatabaseAway as fault:
            raise RequestFailed(errors.NOT_READY, str(fault)) from fault


def _aware(at: datetime) -> datetime:
    """Take a time without a zone as UTC."""
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
