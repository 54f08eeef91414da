"""A header block (RFC 5322 §2.2), read strictly: what two parsers could read in two ways is a fault.

Works on the octets between the start of a message or MIME part and its empty line.
"""

import re

import msgspec

from shared.mail.address import Fault

_FIELD_NAME = re.compile(rb"[!-9;-~]+")
_FIELD = re.compile(rb"^([!-9;-~]++):[^\r\n]*+\r\n(?:[ \t]++[^ \t\r\n][^\r\n]*+\r\n)*+", re.MULTILINE)
"""One sound field, folded or not. Only the start of a line is tried, and nothing twice: no block takes long."""
_SHOWN = 40


class Field(msgspec.Struct, frozen=True):
    """One header field with all its lines."""

    name: str
    """In lower case."""
    raw: bytes
    """As it stands in the message, with its final CRLF."""

    @property
    def value(self) -> bytes:
        """Octets after the colon, unfolded (RFC 5322 §2.2.3), surrounding white space removed."""
        return self.raw.partition(b":")[2].replace(b"\r\n", b"").strip(b" \t")

    @property
    def text(self) -> str:
        """The value as text; octets that are not UTF-8 become U+FFFD."""
        return self.value.decode("utf-8", "replace")


def split_header(part: bytes, limit: int) -> tuple[bytes, int] | Fault:
    """Return the header block of a part, with its last CRLF, and where its body begins.

    A part without an empty line has no body. `limit` is the most octets a header may have.
    """
    if part.startswith(b"\r\n"):
        return b"", 2
    end = part.find(b"\r\n\r\n", 0, limit + 4)
    if end >= 0:
        return part[: end + 2], end + 4
    if len(part) > limit:
        return Fault(f"the header is longer than {limit} octets")
    return part, len(part)


def parse_fields(block: bytes, lines_limit: int) -> list[Field] | Fault:
    """Split a header block into its fields, in order."""
    if block.count(b"\r\n") <= lines_limit:
        fields = [Field(found[1].decode("ascii").lower(), found[0]) for found in _FIELD.finditer(block)]
        if sum([len(field.raw) for field in fields]) == len(block):  # nothing lies between or after sound fields
            return fields
    return read_lines(block, lines_limit)


def read_lines(block: bytes, lines_limit: int) -> list[Field] | Fault:
    """Split a block line by line, and say what is wrong with it."""
    lines = block.split(b"\r\n")
    if lines.pop() != b"":
        return Fault("the header does not end with a line end")
    if len(lines) > lines_limit:
        return Fault(f"the header has more than {lines_limit} lines")
    fields: list[Field] = []
    current: list[bytes] = []
    name = ""
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not current:
                return Fault("the header begins with a continuation line")
            if not line.strip(b" \t"):
                return Fault("the header has a line of nothing but white space")
            current.append(line)
            continue
        before, colon, _ = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(before):
            return Fault(f"this is not a header line: {line[:_SHOWN].decode('ascii', 'replace')!r}")
        if current:
            fields.append(_field(name, current))
        name, current = before.decode("ascii").lower(), [line]
    fields.append(_field(name, current))
    return fields


def _field(name: str, lines: list[bytes]) -> Field:
    return Field(name, b"\r\n".join((*lines, b"")))
