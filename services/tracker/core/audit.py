"""The standing audit: what was accepted must be finished or lie on the mail path, and whatever is neither is missing.

Database and streams are never seen at the same moment, so a gap is only believed when it is found for one message in
two rounds running, each time with that message's own subjects and last STATUS record read again.
"""

from collections.abc import Iterable, Mapping, Set
from datetime import datetime

import msgspec

from services.tracker.core.projection import accepted_time
from shared.contract.subjects import parse_place

NAMED = 20
"""Most queue IDs an alarm names."""


class OpenMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message the database holds as not finished."""

    queue_id: str
    instance: str
    configuration: str
    accepted_at: datetime
    accepted_known: bool
    """False: only STATUS records have told of it so far."""


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """The queue IDs found on the mail path."""

    queued: set[str]
    quarantined: set[str]

    def __contains__(self, queue_id: str) -> bool:
        return queue_id in self.queued or queue_id in self.quarantined


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit believes after a round."""

    suspects: frozenset[str] = frozenset()
    """Not found in this round; missing if the next one does not find them either."""
    missing: dict[str, datetime] = {}
    """Queue ID to when its alarm was raised."""
    raised: tuple[str, ...] = ()
    """Missing since this round."""
    cleared: tuple[str, ...] = ()
    """Missing before this round and accounted for now."""


def add_lying(path: Path, subjects: Iterable[str]) -> None:
    """Add the messages that lie on subjects of the mail path."""
    for subject in subjects:
        place = parse_place(subject)
        if place is not None:
            path.queued.add(place.queue_id)
        elif ".quarantine." in subject:
            path.quarantined.add(subject.rsplit(".", 1)[-1])


def absent(messages: Iterable[OpenMessage], path: Path, before: datetime) -> list[OpenMessage]:
    """Return the open messages accepted before a time that are not on the mail path."""
    return [m for m in messages if m.accepted_at < before and m.queue_id not in path]


def unannounced(queued: Iterable[str], before: datetime) -> list[str]:
    """Return those of the queue IDs that are old enough for their acceptance to have arrived, in order."""
    return sorted(queue_id for queue_id in queued if accepted_time(queue_id, before) < before)


def choose(candidates: Iterable[str], first: Set[str], after: str, limit: int) -> tuple[str, ...]:
    """Return at most `limit` candidates: those of `first`, then the ones that follow `after`, round and round."""
    ordered = sorted(candidates)
    urgent = [queue_id for queue_id in ordered if queue_id in first]
    others = [queue_id for queue_id in ordered if queue_id not in first]
    turned = [q for q in others if q > after] + [q for q in others if q <= after]
    return tuple((urgent + turned)[:limit])


def judge(known: Alarm, candidates: Set[str], looked: Mapping[str, bool], now: datetime) -> Alarm:
    """Return what is believed after a round.

    `candidates` are all messages that seem to be absent; `looked` tells of those that were looked at whether they
    really were. A missing message that was not looked at stays missing for as long as it is a candidate.
    """
    gone = {queue_id for queue_id, really in looked.items() if really}
    missing = {q: at for q, at in known.missing.items() if q in gone or (q in candidates and q not in looked)}
    raised = tuple(sorted(q for q in gone & known.suspects if q not in missing))
    missing |= dict.fromkeys(raised, now)
    return Alarm(
        suspects=frozenset(gone - missing.keys()),
        missing=missing,
        raised=raised,
        cleared=tuple(sorted(known.missing.keys() - missing.keys())),
    )


def named(queue_ids: Iterable[str]) -> str:
    """Name up to `NAMED` queue IDs in a sentence."""
    ordered = sorted(queue_ids)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return ", ".join(ordered[:NAMED]) + more
