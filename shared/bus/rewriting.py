"""A record that is read, changed and written again keeps what a later version put there and this one cannot read."""

from typing import Any

import msgspec


def rewritten(record: msgspec.Struct, before: msgspec.Struct, written: bytes) -> bytes:
    """Encode a record that `before`, read from `written`, was changed into.

    Fields that were not read are written as they were, and so is whatever the change left alone.
    """
    value, known, whole = (msgspec.json.decode(each) for each in (_encoded(record), _encoded(before), written))
    unread = {name: each for name, each in whole.items() if name not in known}
    return msgspec.json.encode(
        unread | {name: _kept(each, known.get(name), whole.get(name)) for name, each in value.items()}
    )


def _encoded(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def _kept(value: Any, known: Any, written: Any) -> Any:
    """Return a value as it was written, if it is still what was read; of a list each part by itself."""
    if written is None:
        return value
    if value == known:
        return written
    if isinstance(value, list) and isinstance(known, list) and isinstance(written, list) and len(known) == len(written):
        return [written[known.index(each)] if each in known else each for each in value]
    return value
