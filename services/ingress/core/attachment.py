"""Does a message carry anything but text? Every leaf must be plain text or HTML, without a file in any disguise."""

import binascii
import re
from quopri import decodestring

import msgspec

from services.ingress.core.headers import Field
from services.ingress.core.mime import (
    TOKEN,
    MimeLimits,
    Part,
    composite_parts,
    content_type,
    doubtful,
    holds_encoded_file,
    parse_value,
    walk,
)
from shared.mail.address import Fault

SINGLETONS = frozenset(
    {"content-type", "content-transfer-encoding", "content-disposition", "content-id", "mime-version"}
)
_DISPOSITION = re.compile(TOKEN)


class Attachment(msgspec.Struct, frozen=True):
    """A part that is not plain text or HTML."""

    part: str
    """What it is, for the reply."""


def find_attachment(fields: list[Field], body: bytes, limits: MimeLimits) -> Attachment | Fault | None:
    """Walk a message; None if every leaf is text/plain or text/html and nothing has a file name."""
    return walk(fields, body, limits, _judge)


def _judge(part: Part, limits: MimeLimits) -> list[Part] | Attachment | Fault | None:
    single: dict[str, Field] = {}
    for field in part.fields:
        if field.name in SINGLETONS:
            if field.name in single:
                return Fault(f"a part has two {field.name} headers")
            single[field.name] = field
    disposition = _disposition(single.get("content-disposition"))
    if isinstance(disposition, Fault | Attachment):
        return disposition
    content = content_type(single.get("content-type"), part.digest)
    if isinstance(content, Fault):
        return content
    if any(name.partition("*")[0] in ("name", "filename") for name in content.parameters):
        return Attachment(f"a part of type {content.name} has a file name")
    encoding = single["content-transfer-encoding"].value.lower() if "content-transfer-encoding" in single else b"7bit"
    if content.name.startswith("multipart/"):
        return composite_parts(part, content, limits)
    if content.name not in ("text/plain", "text/html"):
        return Attachment(f"a part of type {content.name}")
    if content.doubtful:
        return doubtful("content-type")
    return _leaf(part.body, encoding)


def _disposition(field: Field | None) -> Attachment | Fault | None:
    if field is None:
        return None
    parsed = parse_value(field, _DISPOSITION)
    if isinstance(parsed, Fault):
        return parsed
    if any(name.partition("*")[0] in ("filename", "name") for name in parsed.parameters):
        return Attachment("a part has a file name")
    if parsed.name != "inline":
        return Attachment(f"a part has the disposition {parsed.name}")  # RFC 2183 §2.8: unknown is attachment
    return doubtful("content-disposition") if parsed.doubtful else None


def _leaf(body: bytes, encoding: bytes) -> Attachment | Fault | None:
    text = body
    if encoding == b"base64":
        try:
            text = binascii.a2b_base64(body.translate(None, b"\r\n \t"), strict_mode=True)
        except binascii.Error:
            return Fault("the base64 of a part is damaged")
    elif encoding == b"quoted-printable":
        text = decodestring(body)
    elif encoding not in (b"7bit", b"8bit"):
        return Fault(f"the transfer encoding {encoding[:20].decode('ascii', 'replace')} is not known")
    if b"\0" in text:
        return Attachment("a text part holds binary data")
    if holds_encoded_file(body) or (text is not body and holds_encoded_file(text)):
        return Attachment("a text part holds an encoded file")
    return None
