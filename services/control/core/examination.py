"""What is well and what is not, from the answers to the roll call and from what the bus says of its store."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.contract.catalog import BUCKETS, ROOMS, STREAMS
from shared.contract.examination import Finding, Present, State


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """From where on something is called out."""

    fill_percent: int
    clock_seconds: float
    waiting_messages: int


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """A finding, and where it was found."""

    where: str
    """A room, or bus."""
    process: str
    check: str
    state: State
    sentence: str
    advice: str


class Consumers(msgspec.Struct):
    """What the consumers of one stream have before them."""

    waiting: int = 0
    stuck: tuple[str, ...] = ()


def remark(where: str, found: Finding, process: str = "") -> Remark:
    """Return a finding with its place."""
    return Remark(where=where, process=process, **{name: getattr(found, name) for name in Finding.__struct_fields__})


def of_rooms(present: Sequence[Present], asked: datetime, answered: datetime, thresholds: Thresholds) -> list[Remark]:
    """Judge the roll call: who is missing, who is not ready, whose clock is wrong, and what each found itself.

    `asked` and `answered` are the times of asking and of the last answer, by control's clock.
    """
    remarks = [_absent(room) for room in ROOMS if room not in {each.room for each in present}]
    for each in sorted(present, key=lambda one: (one.room, one.process)):
        remarks.append(remark(each.room, _readiness(each), each.process))
        off = max((asked - each.at).total_seconds(), (each.at - answered).total_seconds())
        if off > thresholds.clock_seconds:
            wrong = Finding(
                check="clock",
                state="bad",
                sentence=f"its clock and that of control are {off:.1f} s apart",
                advice="keep the clocks of all hosts in step with NTP",
            )
            remarks.append(remark(each.room, wrong, each.process))
        remarks += [remark(each.room, found, each.process) for found in each.findings]
    return remarks


def _absent(room: str) -> Remark:
    missing = Finding(
        check="running",
        state="bad",
        sentence=f"no process of {room} answers",
        advice=f"start it (`postlane serve {room}`) and see its log; after an upgrade the server of the bus needs "
        "its new configuration too",
    )
    return remark(room, missing)


def _readiness(present: Present) -> Finding:
    if not present.waiting_for:
        return Finding(check="ready", state="ok", sentence="is ready")
    waiting = "; ".join(f"{what}: {why or 'not yet'}" for what, why in present.waiting_for.items())
    return Finding(check="ready", state="bad", sentence=f"is not ready: {waiting}", advice="see its log")


def of_store(answers: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> list[Remark]:
    """Judge what each server says of its store: durability, fill, streams, consumers."""
    if not answers:
        silent = Finding(
            check="durability",
            state="bad",
            sentence="no server says how it stores messages",
            advice="the configuration of the server must let control ask (`postlane up` and `stack-init` write it)",
        )
        return [remark("bus", silent)]
    remarks = []
    streams: dict[str, Mapping[str, Any]] = {}
    for answer in answers:
        data = answer.get("data", {})
        server = str(answer.get("server", {}).get("name", ""))
        remarks += [remark("bus", found, server) for found in (_durability(data), _storage(data, thresholds))]
        for account in data.get("account_details") or ():
            streams |= {each["name"]: each for each in account.get("stream_detail") or ()}
    return [*remarks, *_of_streams(streams, thresholds)]


def _durability(data: Mapping[str, Any]) -> Finding:
    if data.get("config", {}).get("sync_always") is True:
        return Finding(
            check="durability", state="ok", sentence="every message is synced to disk before it is acknowledged"
        )
    return Finding(
        check="durability",
        state="bad",
        sentence="the server does not sync each message to disk",
        advice="set sync_interval: always in its jetstream block; ingress takes no mail before",
    )


def _storage(data: Mapping[str, Any], thresholds: Thresholds) -> Finding:
    used, most = int(data.get("storage", 0)), int(data.get("config", {}).get("max_storage", 0))
    percent = 100 * used / most if most > 0 else 0.0
    text = f"the file store holds {used / 2**20:.0f} MiB of {most / 2**30:.1f} GiB"
    if percent >= thresholds.fill_percent:
        advice = "make the disk larger or raise max_file_store; deferred mail is lost last, new mail is refused first"
        return Finding(check="disk", state="bad", sentence=f"{text} ({percent:.0f} %)", advice=advice)
    return Finding(check="disk", state="ok", sentence=text)


def _of_streams(streams: Mapping[str, Mapping[str, Any]], thresholds: Thresholds) -> list[Remark]:
    declared = [s.name.replace("{s}", "0") for s in STREAMS] + [f"KV_{bucket.name}" for bucket in BUCKETS]
    missing = [name for name in declared if name not in streams]
    found: list[Finding] = []
    if missing:
        found.append(
            Finding(
                check="streams",
                state="bad",
                sentence=f"not there: {', '.join(missing)}",
                advice="run `postlane provision`",
            )
        )
    full = [text for name, each in streams.items() if (text := _full(name, each, thresholds))]
    if full:
        found.append(
            Finding(
                check="streams",
                state="bad",
                sentence="nearly full: " + ", ".join(full),
                advice="see `postlane queue ls`; raise POSTLANE_TOPOLOGY_MAIL_BYTES and run `postlane provision`",
            )
        )
    if not found:
        found.append(
            Finding(check="streams", state="ok", sentence=f"{len(streams)} streams and buckets, none nearly full")
        )
    return [remark("bus", each) for each in (*found, *_lags(streams, thresholds))]


def _full(name: str, stream: Mapping[str, Any], thresholds: Thresholds) -> str:
    config, used = stream.get("config", {}), stream["state"]["bytes"]
    most = config.get("max_bytes", -1) if config.get("discard") != "old" else -1  # those make room by themselves
    percent = 100 * used / most if most > 0 else 0.0
    return f"{name} ({percent:.0f} %)" if percent >= thresholds.fill_percent else ""


def _lags(streams: Mapping[str, Mapping[str, Any]], thresholds: Thresholds) -> Iterable[Finding]:
    waiting, stuck = 0, []
    for name, stream in streams.items():
        own = _consumers(stream)
        waiting += own.waiting
        stuck += [f"{name}/{each}" for each in own.stuck]
        if own.waiting >= thresholds.waiting_messages:
            yield Finding(
                check="consumers",
                state="warning",
                sentence=f"{own.waiting} messages of {name} have not been taken yet",
                advice="see whether its reader runs and keeps up; more processes of it share the work",
            )
    if stuck:
        yield Finding(
            check="consumers",
            state="warning",
            sentence=f"as many taken and unfinished as may be: {', '.join(stuck[:3])}",
            advice="its reader is slow or hangs; see its log",
        )
    if waiting < thresholds.waiting_messages and not stuck:
        yield Finding(check="consumers", state="ok", sentence=f"{waiting} messages wait to be taken")


def _consumers(stream: Mapping[str, Any]) -> Consumers:
    found = Consumers()
    for each in stream.get("consumer_detail") or ():
        found.waiting += int(each.get("num_pending", 0))
        most = each.get("config", {}).get("max_ack_pending", 0)
        if most and each.get("num_ack_pending", 0) >= most:
            found.stuck += (str(each.get("name", "")),)
    return found
