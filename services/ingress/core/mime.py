"""The MIME structure of a message, read without guessing (RFC 2045, 2046, 2183).

Readers of mail differ in what they make of a malformed structure, and attachments hide in the difference. So every
structure that could be read in two ways is refused as malformed, and what is left can be judged.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import msgspec

from services.ingress.core.headers import Field, parse_fields, split_header
from shared.mail.address import Fault

R = TypeVar("R")

TOKEN = rb"[!#$%&'*+.^_`{|}~0-9A-Za-z-]+"
_TYPE = re.compile(rb"(" + TOKEN + rb")/(" + TOKEN + rb")")
_VALUE = re.compile(rb"[ \t]*;[ \t]*(" + TOKEN + rb")=(?:(" + TOKEN + rb')|"((?:[^"\\\x00]|\\[\x01-\x7f])*)")')
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_TRAILER = re.compile(rb"[ \t]*+;?[ \t]*+")
"""Possessive: each comment leaves a space, and a field may have a hundred thousand of them."""
_BOUNDARY = re.compile(rb"(?!')[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 §5.1.1
"""None that begins with an apostrophe: some readers take it for a quotation mark, and look for another boundary."""
_ENCODED_FILE = re.compile(
    rb"(?:^|[\r\n])(?:"
    rb"begin(?:-base64(?:-encoded)?)?[ \t]++(?:"
    rb"(?:100)?[4-7][0-7]{2}[ \t]++[^\r\n]"
    # "begin 7 days from now" or "begin 2027 with joy" is prose, unless a line of data follows
    rb"|[0-7]{1,6}[ \t]++[^\r\n]++(?:\r\n?|\n)[ -`]++(?:[\r\n]|$))"
    rb"|=ybegin |\(This file must be converted with BinHex)"
)
"""Where readers see a file in text: uuencode, yEnc, BinHex (RFC 1741). Possessive, so that no text takes long."""
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


class ContentType(msgspec.Struct, frozen=True):
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


def walk(
    fields: list[Field], body: bytes, limits: MimeLimits, judge: Callable[[Part, MimeLimits], list[Part] | R | None]
) -> R | Fault | None:
    """Judge a message and its parts: `judge` returns the parts of a part, or what ends the walk, or None."""
    waiting = [Part(fields, body, 0, (), False)]
    seen = 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > limits.parts:
            return Fault(f"it has more than {limits.parts} MIME parts")
        if part.depth > limits.depth:
            return Fault(f"its MIME parts are nested deeper than {limits.depth}")
        found = judge(part, limits)
        if isinstance(found, list):
            waiting += found
        elif found is not None:
            return found
    return None


def find_ambiguity(fields: list[Field], body: bytes, limits: MimeLimits) -> Fault | None:
    """Walk a message that may carry anything: only its multiparts must be read by everybody in the same way."""
    return walk(fields, body, limits, _taken_apart)


def _taken_apart(part: Part, limits: MimeLimits) -> list[Part] | Fault | None:
    types = [field for field in part.fields if field.name == "content-type"]
    if len(types) > 1:
        return Fault("a part has two content-type headers")
    content = content_type(types[0] if types else None, part.digest)
    if isinstance(content, Fault):
        # A file name that is written oddly is no danger where files are allowed; a boundary is.
        return content if b"multipart" in types[0].value.lower() else None
    return composite_parts(part, content, limits) if content.name.startswith("multipart/") else None


def composite_parts(part: Part, content: ContentType, limits: MimeLimits) -> list[Part] | Fault:
    """Return the parts of a part whose type is multipart."""
    if content.doubtful:
        return doubtful("content-type")
    encodings = [field.value.lower() for field in part.fields if field.name == "content-transfer-encoding"]
    # RFC 2045 §6.4: an encoding on a composite type must not be; readers differ on decoding it.
    if any(encoding not in (b"7bit", b"8bit", b"binary") for encoding in encodings):
        return Fault("a multipart has a transfer encoding")
    return children_of(part, content, limits)


def doubtful(name: str) -> Fault:
    """Return the fault of a field that has what some readers take for something else."""
    return Fault(f"a comment or a quoted character in {name} can be read in two ways")


def content_type(field: Field | None, digest: bool) -> ContentType | Fault:
    """Return what a part says it is; `digest`: it stands in a multipart/digest."""
    if field is None:
        return ContentType("message/rfc822" if digest else "text/plain", {})  # RFC 2046 §5.1.5, RFC 2045 §5.2
    return parse_value(field, _TYPE)


def parse_value(field: Field, head: re.Pattern[bytes]) -> ContentType | Fault:
    """Read a field that has a value, which `head` matches, and parameters (RFC 2045 §5.1)."""
    return _known(field, head) if len(field.raw) <= KNOWN_BYTES else _read(field, head)


@lru_cache(maxsize=1024)
def _known(field: Field, head: re.Pattern[bytes]) -> ContentType | Fault:
    """Read each of the usual fields once."""
    return _read(field, head)


def _read(field: Field, head: re.Pattern[bytes]) -> ContentType | Fault:
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
    return ContentType(name, parameters, doubtful=quoted or value != written)


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


def children_of(part: Part, content: ContentType, limits: MimeLimits) -> list[Part] | Fault:
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
    if any(len(text) > OUTSIDE_LIMIT or holds_encoded_file(text) for text in outside):
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


def holds_encoded_file(text: bytes) -> bool:
    """Return whether readers see a file in a text."""
    # The plain searches first: they are a hundred times faster, and few texts say one of these words.
    return (b"begin" in text or b"BinHex" in text) and _ENCODED_FILE.search(text) is not None
