"""What a later version wrote is still there after this one has changed a record."""

import json
from typing import Any

import msgspec

from shared.bus.rewriting import rewritten


class Part(msgspec.Struct, frozen=True):
    """A part of a record, as this version knows it."""

    id: str
    used: int = 0


class Record(msgspec.Struct, frozen=True, omit_defaults=True, tag="record.v1", tag_field="type"):
    """A record, as this version knows it."""

    name: str
    parts: tuple[Part, ...] = ()
    one: Part | None = None
    note: str = ""


def after(written: dict[str, Any], **changes: Any) -> Any:
    """Return what is written after a change to what was written before."""
    octets = json.dumps({"type": "record.v1", **written}).encode()
    before = msgspec.json.decode(octets, type=Record)
    return json.loads(rewritten(msgspec.structs.replace(before, **changes), before, octets))


def test_fields_of_a_later_version_stay() -> None:
    """At the top, in what the change left alone, and in the parts of a list that it left alone."""
    written = {
        "name": "a",
        "later": {"x": [1]},
        "one": {"id": "o", "used": 1, "later": 1},
        "parts": [{"id": "p", "used": 1, "later": 2}, {"id": "q", "used": 1, "later": 3}],
    }
    changed = after(written, name="b", parts=(Part("q", 1), Part("r", 0)))
    assert changed == {
        "type": "record.v1",
        "name": "b",
        "later": {"x": [1]},
        "one": written["one"],
        "parts": [{"id": "q", "used": 1, "later": 3}, {"id": "r", "used": 0}],
    }


def test_what_was_changed_is_this_versions() -> None:
    """Another part in the place of one does not inherit what only the first one had; a default ends what was there."""
    written = {"name": "a", "note": "n", "one": {"id": "o", "used": 1, "later": 1}}
    assert after(written, one=Part("p", 2)) == {
        "type": "record.v1", "name": "a", "note": "n", "one": {"id": "p", "used": 2},
    }  # fmt: skip
    assert after(written, one=None, note="") == {"type": "record.v1", "name": "a"}
