"""Permissions of every user of the bus, made from the catalogue: least privilege, nothing by hand.

No room may create or delete a stream or a consumer: the right to create one is the right to publish anywhere
(`deliver_subject`). Only `provision`, which runs once and ends, has the JetStream API.
"""

import msgspec

from shared.bus.settings import Topology
from shared.contract import catalog
from shared.contract.catalog import BUCKETS, CHANNELS, CONSUMERS, SERVICES, STREAMS, Consumer, Room
from shared.contract.examination import ROLL_CALL
from shared.contract.records import LANES
from shared.contract.subjects import SYNC_PROOF

ADMINISTRATOR = "provision"
STATUS_USER: Room = "status"
MAY_PROVE_SYNC: tuple[Room, ...] = ("ingress", "control")


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """What one user may publish and subscribe to; everything else is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: bool
    """May answer the requests it received."""


def consumer_names(consumer: Consumer, topology: Topology) -> list[tuple[str, str, str]]:
    """Return stream, name and filter of every consumer a declaration stands for."""
    shards = range(topology.shards) if "{s}" in consumer.stream else [0]
    lanes = LANES if "{lane}" in consumer.name else ("",)
    slots = range(topology.slots) if "{slot}" in consumer.name else [0]
    return [
        tuple(
            text.replace("{s}", str(s)).replace("{lane}", lane).replace("{slot}", str(slot))
            for text in (consumer.stream, consumer.name, consumer.filter)
        )  # type: ignore[misc]  # three texts in, three texts out
        for s in shards
        for lane in lanes
        for slot in slots
    ]


def stream_names(name: str, topology: Topology) -> list[str]:
    """Return the names of the streams a declaration stands for."""
    return [name.replace("{s}", str(s)) for s in range(topology.shards)] if "{s}" in name else [name]


def permissions_of(room: Room, topology: Topology) -> Permissions:
    """Return what a room may do on the bus."""
    publish: list[str] = []
    subscribe: list[str] = [f"_INBOX_{room}.>"]
    for stream in STREAMS:
        for pattern, writers in stream.writers.items():
            if room in writers:
                publish.append(pattern.replace("{s}", "*"))
        if room in stream.readers:
            for name in stream_names(stream.name, topology):
                publish += _reading(name)
        if room in stream.observers:
            publish += [_information(name) for name in stream_names(stream.name, topology)]
        if room in stream.removers:
            publish += [f"$JS.API.STREAM.MSG.DELETE.{name}" for name in stream_names(stream.name, topology)]
    for consumer in CONSUMERS:
        if room == consumer.reader:
            for name, durable, _ in consumer_names(consumer, topology):
                publish += [
                    f"$JS.API.CONSUMER.MSG.NEXT.{name}.{durable}",
                    f"$JS.API.CONSUMER.INFO.{name}.{durable}",
                    f"$JS.ACK.{name}.{durable}.>",
                ]
    for bucket in BUCKETS:
        if room in bucket.readers:
            publish += _reading(f"KV_{bucket.name}")
            subscribe.append(f"postlane.changed.{bucket.name}")
        if room == bucket.writer:
            publish += [f"$KV.{bucket.name}.>", f"postlane.changed.{bucket.name}"]
    for channel in CHANNELS:
        prefix, _, placeholders = channel.subject.partition(".{")
        if room in channel.readers:
            subscribe.append(f"{prefix}.>")
        if room == channel.writer and not channel.stored:
            publish.append(prefix + ".*" * (1 + placeholders.count("{")))
    answers = False
    for pattern, (server, askers) in SERVICES.items():
        if room == server:
            subscribe += [pattern, "$SRV.>"]
            answers = True
        if room in askers:
            publish.append(pattern)
    if room in catalog.ROOMS:
        subscribe.append(ROLL_CALL)
        answers = True
    if room == catalog.ASKS_ROLL_CALL:
        publish.append(ROLL_CALL)
    if room in MAY_PROVE_SYNC:
        publish.append(SYNC_PROOF)
    return Permissions(publish=_unique(publish), subscribe=_unique(subscribe), responses=answers)


def _reading(stream: str) -> list[str]:
    return [
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        _information(stream),
    ]


def _information(stream: str) -> str:
    return f"$JS.API.STREAM.INFO.{stream}"


def _unique(items: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def users() -> tuple[str, ...]:
    """Return every user of the bus, the administrator first."""
    return (ADMINISTRATOR, *catalog.ROOMS, STATUS_USER)
