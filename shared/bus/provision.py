"""Makes the streams, consumers and buckets of the catalogue, and keeps them as declared. Idempotent."""

import asyncio
import logging
from typing import Any

import msgspec

from shared.bus.client import Bus
from shared.bus.permissions import consumer_names, stream_names
from shared.bus.settings import BusSettings, Topology
from shared.contract.catalog import BUCKETS, CONSUMERS, STREAMS, BucketDeclaration, Stream
from shared.contract.errors import PostlaneError

log = logging.getLogger("provision")

NANOSECONDS = 1_000_000_000
_NOT_FOUND = {10059, 10014}
AT_ONCE = 32
_UNLIMITED = {"max_msgs": -1, "max_msgs_per_subject": -1, "max_msg_size": -1, "no_ack": False}
"""What is named only so that it is put right if somebody has set it."""
FORGETTING_SHARE = 8
"""What may be forgotten gets so small a part of what a mail stream gets."""


class ProvisionFailed(PostlaneError):
    """A stream or consumer could not be made as declared; the text says which and why."""


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    created: int
    updated: int
    unchanged: int


def stream_configurations(topology: Topology, replicas: int) -> list[dict[str, Any]]:
    """Return the configuration of every stream and bucket, in the words of the JetStream API."""
    made = [
        _stream(stream, name, str(shard), topology, replicas)
        for stream in STREAMS
        for shard, name in enumerate(stream_names(stream.name, topology))
    ]
    return made + [_bucket(bucket, replicas) for bucket in BUCKETS]


def _stream(stream: Stream, name: str, shard: str, topology: Topology, replicas: int) -> dict[str, Any]:
    limit = topology.mail_bytes if stream.bounded else -1
    made: dict[str, Any] = {
        "name": name,
        "description": stream.description,
        "subjects": [subject.replace("{s}", shard) for subject in stream.subjects],
        "storage": "file",
        "retention": stream.retention,
        # The server refuses schedules together with discard new; a stream of schedules has no limit to discard by.
        "discard": "old" if stream.schedules or stream.forgets else "new",
        "num_replicas": replicas,
        **_UNLIMITED,
        # The server sets these octets aside, whether they are used or not.
        "max_bytes": topology.mail_bytes // FORGETTING_SHARE if stream.forgets else limit,
        "max_age": (topology.status_hours if stream.aged else stream.max_age_hours) * 3600 * NANOSECONDS,
        "duplicate_window": 120 * NANOSECONDS,
        "allow_direct": True,
        "deny_delete": not (stream.schedules or stream.removers),
        "deny_purge": not stream.schedules,
        "allow_rollup_hdrs": stream.schedules,
    }
    if stream.schedules:
        made["allow_msg_schedules"] = True
    return made


def _bucket(bucket: BucketDeclaration, replicas: int) -> dict[str, Any]:
    return {
        "name": f"KV_{bucket.name}",
        "description": bucket.description,
        "subjects": [f"$KV.{bucket.name}.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "num_replicas": replicas,
        **_UNLIMITED,
        "max_msgs_per_subject": bucket.history,
        "max_age": bucket.max_age_hours * 3600 * NANOSECONDS,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
    }


def consumer_configurations(topology: Topology) -> list[tuple[str, dict[str, Any]]]:
    """Return stream and configuration of every consumer."""
    return [
        (
            stream,
            {
                "durable_name": name,
                "name": name,
                "description": declared.description,
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": declared.ack_wait_seconds * NANOSECONDS,
                "max_deliver": -1,
                "max_ack_pending": declared.max_ack_pending,
                **({"filter_subject": subject_filter} if subject_filter else {}),
            },
        )
        for declared in CONSUMERS
        for stream, name, subject_filter in consumer_names(declared, topology)
    ]


async def provision(bus: Bus, settings: BusSettings, topology: Topology) -> Provisioned:
    """Bring the server to what the catalogue declares.

    Errors: `ProvisionFailed` where the server refuses; `BusUnavailable`.
    """
    tally = {"created": 0, "updated": 0, "unchanged": 0}
    for wanted in stream_configurations(topology, settings.replicas):
        tally[await _ensure_stream(bus, wanted)] += 1
    gate = asyncio.Semaphore(AT_ONCE)

    async def ensure(stream: str, wanted: dict[str, Any]) -> None:
        async with gate:
            tally[await _ensure_consumer(bus, stream, wanted)] += 1

    async with asyncio.TaskGroup() as tasks:
        for stream, wanted in consumer_configurations(topology):
            tasks.create_task(ensure(stream, wanted))
    done = Provisioned(**tally)
    log.info("provisioned: %d created, %d updated, %d as declared", done.created, done.updated, done.unchanged)
    return done


async def _ensure_stream(bus: Bus, wanted: dict[str, Any]) -> str:
    name = wanted["name"]
    present = await bus.api(f"STREAM.INFO.{name}")
    if error := present.get("error"):
        if error.get("err_code") not in _NOT_FOUND:
            raise ProvisionFailed(f"stream {name}: {error.get('description')}")
        await _call(bus, f"STREAM.CREATE.{name}", wanted, f"stream {name}")
        return "created"
    # What a stream once denied the server never allows it again; what needs it does without.
    wanted = wanted | {name: True for name in ("deny_delete", "deny_purge") if present["config"].get(name)}
    if _agrees(present["config"], wanted):
        return "unchanged"
    await _call(bus, f"STREAM.UPDATE.{name}", {**present["config"], **wanted}, f"stream {name}")
    return "updated"


async def _ensure_consumer(bus: Bus, stream: str, wanted: dict[str, Any]) -> str:
    name = wanted["durable_name"]
    what = f"consumer {name} of {stream}"
    present = await bus.api(f"CONSUMER.INFO.{stream}.{name}")
    if not present.get("error") and _agrees(present["config"], wanted):
        return "unchanged"
    # Create also updates; the filter stands in the API's subject, or not at all.
    tail = f".{wanted['filter_subject']}" if "filter_subject" in wanted else ""
    await _call(bus, f"CONSUMER.CREATE.{stream}.{name}{tail}", {"stream_name": stream, "config": wanted}, what)
    return "created" if present.get("error") else "updated"


async def _call(bus: Bus, call: str, body: dict[str, Any], what: str) -> None:
    answer = await bus.api(call, body, timeout_seconds=15)
    if error := answer.get("error"):
        raise ProvisionFailed(f"{what}: {error.get('description')}")


def _agrees(present: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(present.get(name, _absent(value)) == value for name, value in wanted.items())


def _absent(value: Any) -> Any:
    """Return what the server means by leaving a field out."""
    return False if value is False else 0 if value == 0 else None
