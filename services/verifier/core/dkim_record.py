"""The DKIM key record of a selector, judged against the key we sign with (RFC 6376 §3.6.1).

Valid is what a receiver can check our signatures with: the published key is ours and nothing beside it forbids its use.
"""

import base64
import binascii
import re

import msgspec

from services.verifier.core.answer import Absent, Answer, Records, Unknown
from shared.contract.standing import Verdict

_TAG = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=(.*)", re.DOTALL)  # RFC 6376 §3.2 tag-spec
_SPACE = re.compile(r"[ \t\r\n]+")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict on one record and a sentence a customer can act on."""

    verdict: Verdict
    detail: str
    values: tuple[str, ...] = ()
    """The TXT values the verdict is about."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed key record; defaults are those of RFC 6376 §3.6.1."""

    key: bytes
    """The public key, decoded; empty if it is revoked."""
    key_type: str = "rsa"
    hashes: tuple[str, ...] = ()
    """Acceptable hash algorithms; empty: all."""
    services: tuple[str, ...] = ("*",)
    flags: tuple[str, ...] = ()


def judge(answer: Answer, name: str, ours: str, delegated_to: str = "") -> Finding:
    """Judge what was answered for TXT `name`; `ours` is the value the customer was told to publish.

    `delegated_to` is where a CNAME of the customer is to lead instead, "" if there is none.
    """
    match answer:
        case Unknown(why):
            return Finding(verdict="unknown", detail=f"The DKIM record at {name} could not be looked up: {why}.")
        case Absent(evidence):
            return Finding(verdict="fail", detail=_absent(name, evidence.canonical, delegated_to))
        case Records(values):
            verdict, detail = _judge_values(values, name, ours)
            return Finding(verdict=verdict, detail=detail, values=values)


def judge_alias(answer: Answer, name: str, delegated_to: str) -> Finding:
    """Judge whether a CNAME leads where it is to lead, whatever lies there by now."""
    canonical = answer.evidence.canonical
    if canonical == delegated_to:
        return Finding(verdict="pass", detail=f"{name} leads to {canonical}.", values=(canonical,))
    if isinstance(answer, Unknown) and not canonical:
        return Finding(verdict="unknown", detail=f"The CNAME record at {name} could not be looked up: {answer.why}.")
    values = (canonical,) if canonical else answer.values if isinstance(answer, Records) else ()
    found = f"{name} leads to {canonical}" if canonical else f"There is no CNAME record at {name}"
    return Finding(verdict="fail", detail=f"{found}: publish a CNAME record to {delegated_to}.", values=values)


def _absent(name: str, canonical: str, delegated_to: str) -> str:
    if delegated_to and canonical == delegated_to:
        return f"{name} leads to {canonical}, but the relay's operator has not published the key there: tell them."
    where = f" ({canonical}, where it points)" if canonical else ""
    wanted = f"a CNAME record to {delegated_to}" if delegated_to else "the TXT record"
    return f"There is no DKIM record at {name}{where}: publish {wanted}."


def _judge_values(values: tuple[str, ...], name: str, ours: str) -> tuple[Verdict, str]:
    expected = parse(ours)
    if isinstance(expected, str):
        return "unknown", f"Our own key for {name} cannot be read: {expected}."
    candidates = [value for value in values if _looks_like_key(value)]
    if not candidates:
        return "fail", f"The TXT record at {name} is not a DKIM key: replace it by the value given."
    if len(candidates) > 1:  # RFC 6376 §3.6.2.2: results are undefined, receivers pick any
        return "fail", f"There are {len(candidates)} DKIM keys at {name}, receivers may use any: keep only ours."
    record = parse(candidates[0])
    if isinstance(record, str):
        return "fail", f"The DKIM record at {name} is malformed: {record}."
    fault = _fault(record, expected)
    if fault:
        return "fail", f"The DKIM record at {name} {fault}."
    notes = "".join(f" ({note})" for note in _notes(record, len(values)))
    return "pass", f"The DKIM record at {name} publishes our key{notes}."


def parse(value: str) -> KeyRecord | str:
    """Parse a key record, or say why it is none, as a clause."""
    tags = _tags(value)
    if isinstance(tags, str):
        return tags
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):  # RFC 6376 §3.6.1: first, and exactly this
        return "v= must come first and be DKIM1"
    if "p" not in tags:
        return "it has no p= tag with the key"
    try:
        key = base64.b64decode(_SPACE.sub("", tags["p"]), validate=True)
    except (binascii.Error, ValueError):
        return "the key in p= is not base64, perhaps it was cut"
    return KeyRecord(
        key=key,
        key_type=tags.get("k", "rsa"),
        hashes=_words(tags.get("h", "")),
        services=_words(tags.get("s", "*")),
        flags=_words(tags.get("t", "")),
    )


def _tags(value: str) -> dict[str, str] | str:
    tags: dict[str, str] = {}
    # RFC 6376 §3.2: a trailing semicolon is allowed; space behind it is common, and no receiver minds
    for part in value.rstrip(" \t\r\n").removesuffix(";").split(";"):
        found = _TAG.fullmatch(part)
        if not found:
            return f"'{part.strip()[:40]}' is not of the form tag=value" if part.strip() else "it has an empty tag"
        if found[1] in tags:  # RFC 6376 §3.2: duplicates make the whole list invalid
            return f"the tag {found[1]}= appears twice"
        tags[found[1]] = found[2].strip(" \t\r\n")
    return tags


def _fault(record: KeyRecord, expected: KeyRecord) -> str:
    """Return what keeps receivers from checking our signatures with this record, or ""."""
    if not record.key:
        return "is revoked (p= is empty): publish the value given"  # RFC 6376 §3.6.1
    if record.key_type != expected.key_type:
        return f"is for keys of type {record.key_type[:20]}, ours is {expected.key_type}"
    if record.key != expected.key:
        cut = expected.key.startswith(record.key)
        return "publishes only a part of our key: it was cut" if cut else "publishes another key than ours"
    if record.hashes and "sha256" not in record.hashes:
        return f"allows only the hash {':'.join(record.hashes)[:40]}, our signatures use sha256"
    if not {"*", "email"} & set(record.services):
        return f"is not for e-mail (s={':'.join(record.services)[:40]})"
    return ""


def _notes(record: KeyRecord, records: int) -> list[str]:
    notes = []
    if "y" in record.flags:
        notes.append("t=y says the domain is testing DKIM, so receivers may treat signed mail as unsigned: remove it")
    if records > 1:
        notes.append("another TXT record, not a key, is at the same name: remove it")
    return notes


def _looks_like_key(value: str) -> bool:
    return re.search(r"(?:^|;)[ \t\r\n]*(?:v[ \t\r\n]*=[ \t\r\n]*DKIM1|p[ \t\r\n]*=)", value) is not None


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip(" \t\r\n") for word in value.split(":") if word.strip(" \t\r\n"))
