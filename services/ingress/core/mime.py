"""Does a message carry anything but text? A walk over its MIME structure that guesses nothing (RFC 2045, 2046, 2183).

Readers of mail differ in what they make of a malformed structure, and attachments hide in the difference. So every
structure that could be read in two ways is refused as malformed, and what is left can be judged.
"""

import binascii
import re
from functools import lru_cache
from itertools import pairwise
from quopri import decodestring

import msgspec

from services.ingress.core.headers import Field, parse_fields, split_header
from shared.mail.address import Fault

_TOKEN = rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+"
_TYPE = re.compile(rb"(" + _TOKEN + rb")/(" + _TOKEN + rb")")
_VALUE = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb")=(?:(" + _TOKEN + rb')|"((?:[^"\\\x00]|\\[\x01-\x7f])*)")')
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_DISPOSITION = re.compile(_TOKEN)
_TRAILER = re.compile(rb"[ \t]*;?[ \t]*")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
_ENCODED_FILE = re.compile(
    rb"(?:^|[\r\n])(?:"
    rb"begin(?:-base64(?:-encoded)?)?[ \t]++(?:"
    rb"[0-7]{3,6}[ \t]++[^\r\n]"
    # "begin 7 days from now" is prose, unless a line of data follows
    rb"|[0-7]{1,2}[ \t]++[^\r\n]++(?:\r\n?|\n)[ -`]++(?:[\r\n]|$))"
    rb"|=ybegin |\(This file must be converted with BinHex)"
)
"""Where readers see a file in text: uuencode, yEnc, BinHex (RFC 1741). Possessive, so that no text takes long."""
SINGLETONS = frozenset(
    {"content-type", "content-transfer-encoding", "content-disposition", "content-id", "mime-version"}
)
KNOWN_BYTES = 200
"""A field up to this size is remembered with what it says: most messages have the same few."""
OUTSIDE_LIMIT = 512
"""Octets allowed before the first and after the last boundary, where nobody looks."""


class MimeLimits(msgspec.Struct, frozen=True):
    """Bounds of the walk."""

    depth: int = 10
    parts: int = 100
    header_bytes: int = 65_536
    header_lines: int = 1_000


class Attachment(msgspec.Struct, frozen=True):
    """A part that is not plain text or HTML."""

    part: str
    """What it is, for the reply."""


class _Type(msgspec.Struct, frozen=True):
    """A parsed Content-Type or Content-Disposition."""

    name: str
    parameters: dict[str, bytes]
    doubtful: bool = False
    """It has a comment, or a quoted separator or backslash: some readers see a parameter there, a file name perhaps."""


class Part(msgspec.Struct, frozen=True):
    """One part still to be looked at."""

    fields: list[Field]
    body: bytes
    depth: int
    boundaries: tuple[bytes, ...]
    digest: bool


def find_attachment(fields: list[Field], body: bytes, limits: MimeLimits) -> Attachment | Fault | None:
    """Walk a message; None if every leaf is text/plain or text/html and nothing has a file name."""
    waiting = [Part(fields, body, 0, (), False)]
    seen = 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > limits.parts:
            return Fault(f"it has more than {limits.parts} MIME parts")
        if part.depth > limits.depth:
            return Fault(f"its MIME parts are nested deeper than {limits.depth}")
        found = _judge(part, limits)
        if isinstance(found, list):
            waiting += found
        elif found is not None:
            return found
    return None


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
    composite = content.name.startswith("multipart/")
    if not composite and content.name not in ("text/plain", "text/html"):
        return Attachment(f"a part of type {content.name}")
    if content.doubtful:
        return _doubtful("content-type")
    if composite:
        # RFC 2045 §6.4: an encoding on a composite type must not be; readers differ on decoding it.
        if encoding not in (b"7bit", b"8bit", b"binary"):
            return Fault("a multipart has a transfer encoding")
        return children_of(part, content, limits)
    return _leaf(part.body, encoding)


def _disposition(field: Field | None) -> Attachment | Fault | None:
    if field is None:
        return None
    parsed = _parse(field, _DISPOSITION)
    if isinstance(parsed, Fault):
        return parsed
    if any(name.partition("*")[0] in ("filename", "name") for name in parsed.parameters):
        return Attachment("a part has a file name")
    if parsed.name != "inline":
        return Attachment(f"a part has the disposition {parsed.name}")  # RFC 2183 §2.8: unknown is attachment
    return _doubtful("content-disposition") if parsed.doubtful else None


def _doubtful(name: str) -> Fault:
    return Fault(f"a comment or a quoted character in {name} can be read in two ways")


def content_type(field: Field | None, digest: bool) -> _Type | Fault:
    """Return what a part says it is; `digest`: it stands in a multipart/digest."""
    if field is None:
        return _Type("message/rfc822" if digest else "text/plain", {})  # RFC 2046 §5.1.5, RFC 2045 §5.2
    return _parse(field, _TYPE)


def _parse(field: Field, head: re.Pattern[bytes]) -> _Type | Fault:
    return _known(field, head) if len(field.raw) <= KNOWN_BYTES else _read(field, head)


@lru_cache(maxsize=1024)
def _known(field: Field, head: re.Pattern[bytes]) -> _Type | Fault:
    """Read each of the usual fields once."""
    return _read(field, head)


def _read(field: Field, head: re.Pattern[bytes]) -> _Type | Fault:
    written = field.value
    value = without_comments(written)
    if value is None:
        return Fault(f"a comment in {field.name} is malformed")
    start = len(value) - len(value.lstrip(b" \t"))  # of the space a comment leaves
    match = head.match(value, start)
    if match is None:
        return Fault(f"the header {field.name} cannot be read")
    name = match[0].decode("ascii").lower()
    parameters: dict[str, bytes] = {}
    position = match.end()
    while True:
        found = _VALUE.match(value, position)
        if found is None:
            break
        key = found[1].decode("ascii").lower()
        if key in parameters:
            return Fault(f"the header {field.name} has two parameters {key}")
        parameters[key] = found[2] if found[2] is not None else re.sub(rb"\\(.)", rb"\1", found[3])
        position = found.end()
    if not _TRAILER.fullmatch(value, position):
        return Fault(f"the parameters of {field.name} cannot be read")
    quoted = any(b";" in each or b"\\" in each for each in _QUOTED.findall(value))
    return _Type(name, parameters, doubtful=quoted or value != written)


def without_comments(value: bytes) -> bytes | None:
    """Return a structured value with a space for each comment (RFC 5322 §3.2.2); None: it cannot be read."""
    if b"(" not in value:
        return value
    kept = bytearray()
    depth = 0
    quoted = False
    position = 0
    while position < len(value):
        char = value[position : position + 1]
        if char == b"\\" and (quoted or depth):
            if not depth:
                kept += value[position : position + 2]
            position += 2
            continue
        if char == b'"' and not depth:
            quoted = not quoted
        if not quoted and char == b"(":
            depth += 1
        elif not quoted and char == b")":
            depth -= 1
            if depth < 0:
                return None
            kept += b" "
        elif not depth:
            kept += char
        position += 1
    return None if depth or quoted else bytes(kept)


def children_of(part: Part, content: _Type, limits: MimeLimits) -> list[Part] | Fault:
    """Return the parts of a multipart."""
    boundary = content.parameters.get("boundary", b"")
    if any(name.startswith("boundary*") for name in content.parameters) or not _BOUNDARY.fullmatch(boundary):
        return Fault("a multipart has no usable boundary")
    if any(other.startswith(boundary) or boundary.startswith(other) for other in part.boundaries):
        return Fault("one MIME boundary is the beginning of another")
    pieces = _split(part.body, boundary, limits.parts)
    if isinstance(pieces, Fault):
        return pieces
    children = []
    for piece in pieces:
        head = split_header(piece, limits.header_bytes)
        if isinstance(head, Fault):
            return head
        block, start = head
        if block and not block.endswith(b"\r\n"):
            block += b"\r\n"
        fields = parse_fields(block, limits.header_lines)
        if isinstance(fields, Fault):
            return Fault(f"in a MIME part {fields.reason}")
        children.append(
            Part(
                fields, piece[start:], part.depth + 1, (*part.boundaries, boundary), content.name == "multipart/digest"
            )
        )
    return children


def _split(body: bytes, boundary: bytes, most: int) -> list[bytes] | Fault:
    """Cut the body of a multipart at its delimiter lines (RFC 2046 §5.1.1)."""
    delimiter = b"--" + boundary
    cuts: list[tuple[int, int, bool]] = []
    position = 0 if body.startswith(delimiter) else _next(body, delimiter, 0)
    while position >= 0:
        if len(cuts) > most:
            return Fault(f"it has more than {most} MIME parts")
        end = body.find(b"\r\n", position)
        line = body[position : end if end >= 0 else len(body)]
        tail = line[len(delimiter) :].rstrip(b" \t")
        if tail not in (b"", b"--"):
            return Fault("a line only begins like a MIME boundary")
        cuts.append((position, end + 2 if end >= 0 else len(body), tail == b"--"))
        position = _next(body, delimiter, position + len(delimiter))
    if not cuts or not cuts[-1][2]:
        return Fault("a multipart has no final boundary")
    if any(final for _, _, final in cuts[:-1]):
        return Fault("a multipart goes on after its final boundary")
    if len(cuts) == 1:
        return Fault("a multipart has no parts")
    outside = body[: cuts[0][0]], body[cuts[-1][1] :]
    if any(len(text) > OUTSIDE_LIMIT or _holds_encoded_file(text) for text in outside):
        return Fault("a multipart hides content before its first or after its last boundary")
    pieces = []
    for (_, start, _), (stop, _, _) in pairwise(cuts):
        if start == stop:  # RFC 2046 §5.1.1: a delimiter has a CRLF of its own; some readers skip one without
            return Fault("one MIME boundary follows another at once")
        pieces.append(body[start : stop - 2])  # the CRLF before a delimiter belongs to it
    return pieces


def _next(body: bytes, delimiter: bytes, start: int) -> int:
    found = body.find(b"\r\n" + delimiter, start)
    return found + 2 if found >= 0 else -1


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
    if _holds_encoded_file(body) or (text is not body and _holds_encoded_file(text)):
        return Attachment("a text part holds an encoded file")
    return None


def _holds_encoded_file(text: bytes) -> bool:
    # The plain searches first: they are a hundred times faster, and few texts say one of these words.
    return (b"begin" in text or b"BinHex" in text) and _ENCODED_FILE.search(text) is not None
