"""Golden records of every version: what was once written on the bus or in a bucket is read for ever.

A sample is never changed and never removed. A new version of an event or a record gets a new tag and a new sample.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.contract import envelope, events, records, siblings, standing
from shared.contract.envelope import LaterVersion, Progress, Undecodable, pack, unpack

SAMPLES = Path(__file__).parent / "samples"


def tagged(base: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """Return every tagged Struct beneath a base, by its tag."""
    found: dict[str, type[msgspec.Struct]] = {}
    for kind in base.__subclasses__():
        if kind.__module__.startswith("shared.contract"):
            if re.fullmatch(r".+\.v\d+", str(kind.__struct_config__.tag)):
                found[str(kind.__struct_config__.tag)] = kind
            found |= tagged(kind)
    return found


KINDS = tagged(events.Event) | tagged(records.Record)
MODULES = (siblings, standing)
"""Read so that their records are known."""
FILES = sorted(SAMPLES.glob("*.json"))


def keeps(sample: Any, read: Any) -> bool:
    """Whether everything a sample says is still there after reading; what was added since may be more."""
    if isinstance(sample, dict):
        return isinstance(read, dict) and all(key in read and keeps(value, read[key]) for key, value in sample.items())
    if isinstance(sample, list):
        return isinstance(read, list) and len(read) == len(sample) and all(map(keeps, sample, read))
    return bool(sample == read)


@pytest.mark.parametrize("tag", sorted(KINDS))
def test_every_event_and_record_has_a_sample(tag: str) -> None:
    """What can be written has a golden record."""
    assert (SAMPLES / f"{tag}.json").exists(), f"write tests/wire/samples/{tag}.json: a record as it is published"


def test_the_union_of_events_is_complete() -> None:
    """No event is declared without being readable as one."""
    assert {str(kind.__struct_config__.tag) for kind in events.AnyEvent.__args__} == tagged(events.Event).keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_sample_is_read_and_loses_nothing(file: Path) -> None:
    """Every field ever published still has its meaning, and writing it again says the same."""
    sample = json.loads(file.read_bytes())
    assert sample["type"] == file.stem
    value = msgspec.json.decode(file.read_bytes(), type=KINDS[file.stem])
    again = json.loads(msgspec.json.encode(value))
    assert keeps(sample, again)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_fields_of_later_versions_are_ignored(file: Path) -> None:
    """A reader goes on when a field is added."""
    sample = json.loads(file.read_bytes())
    value = msgspec.json.decode(json.dumps({**sample, "added_later": {"x": 1}}), type=KINDS[file.stem])
    assert keeps(sample, json.loads(msgspec.json.encode(value)))


def test_events_are_read_by_their_tag() -> None:
    """A reader of any event finds the right type by the field `type`."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(events.AnyEvent)
    for tag, kind in tagged(events.Event).items():
        assert type(decoder.decode((SAMPLES / f"{tag}.json").read_bytes())) is kind


def test_a_message_on_the_bus_is_read_with_its_octets() -> None:
    """The carriage of version 1 and the mail behind it, bit for bit."""
    payload = (SAMPLES / "envelope.v1.carriage").read_bytes()
    carriage, mail = unpack(payload)
    line, _, octets = payload.partition(b"\n")
    assert mail == octets
    assert mail.endswith(b".\r\n\x00\xff")
    assert json.loads(line)["envelope"]["type"] == envelope.Envelope.__struct_config__.tag == "envelope.v1"
    assert keeps(json.loads(line), json.loads(msgspec.json.encode(carriage)))
    assert unpack(pack(carriage, mail)) == (carriage, mail)


def test_a_damaged_message_is_told_from_a_whole_one() -> None:
    """A cut, lengthened or headless payload cannot be taken for a message."""
    payload = (SAMPLES / "envelope.v1.carriage").read_bytes()
    for damaged in (
        payload[:-1],
        payload + b"x",
        payload.partition(b"\n")[0],
        payload[1:],
        b"",
        b"\n",
        b'{"\x80":1}\n',
        b"[" * 99999 + b"\n",
    ):
        with pytest.raises(Undecodable):
            unpack(damaged)


def later(change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the message of version 1 as a later version might have written it."""
    line, _, mail = (SAMPLES / "envelope.v1.carriage").read_bytes().partition(b"\n")
    written = json.loads(line)
    change(written["envelope"])
    return json.dumps(written).encode() + b"\n" + mail


def test_a_message_is_passed_on_with_what_a_later_version_put_there() -> None:
    """Fields that this version does not know, anywhere in the envelope, are in the copy at the next place."""

    def add(envelope: dict[str, Any]) -> None:
        envelope["added_later"] = {"x": [1, 2]}
        envelope["recipients"][0]["added_later"] = "y"

    payload = later(add)
    carriage, mail = unpack(payload)
    moved = pack(msgspec.structs.replace(carriage, progress=Progress(attempt=3)), mail)
    assert json.loads(moved.partition(b"\n")[0])["envelope"] == json.loads(payload.partition(b"\n")[0])["envelope"]
    assert unpack(moved)[0].progress.attempt == 3


def test_a_message_of_a_later_version_is_told_from_a_damaged_one() -> None:
    """A value this version does not know, or another version: whole all the same, unless the mail is not."""
    for change in (
        lambda envelope: envelope.update(type="envelope.v2"),
        lambda envelope: envelope.update(lane="express"),
        lambda envelope: envelope.update(staging={"mode": "mirror"}),
        lambda envelope: envelope.pop("recipients"),
    ):
        with pytest.raises(LaterVersion):
            unpack(later(change))
        for damaged in (later(change) + b"x", later(change)[:-1] + b"x"):
            with pytest.raises(Undecodable) as fault:
                unpack(damaged)
            assert fault.type is Undecodable
    with pytest.raises(Undecodable) as fault:
        unpack(later(lambda envelope: envelope.update(type="something.v1")))
    assert fault.type is Undecodable
