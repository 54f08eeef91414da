"""The readable parts of a message, decoded: what the content policies look at."""

import binascii
from quopri import decodestring

import msgspec

from services.ingress.core.headers import Field
from services.ingress.core.mime import MimeLimits, Part, children_of, content_type
from shared.mail.address import Fault

CHARSETS = frozenset(
    {"utf-8", "utf8", "us-ascii", "gb18030", "gbk", "gb2312", "big5", "shift_jis", "euc-jp", "euc-kr", "iso-2022-jp"}
    | {f"iso-8859-{number}" for number in range(1, 17) if number != 12}
    | {f"windows-125{number}" for number in range(9)}
    | {"koi8-r", "koi8-u"}
)
"""Charsets that are decoded; in any other, octets stand for themselves, which leaves ASCII as it is."""


class Text(msgspec.Struct, frozen=True):
    """A readable part."""

    kind: str
    """text/plain or text/html."""
    number: str
    """Which part, as `1.2`; "1" for a message that is not a multipart."""
    text: str


def texts(fields: list[Field], body: bytes, limits: MimeLimits) -> list[Text]:
    """Return the plain and HTML parts of a message, in order; parts that cannot be read are left out."""
    waiting = [(Part(fields, body, 0, (), False), "")]
    found: list[Text] = []
    seen = 0
    while waiting and seen < limits.parts:
        part, number = waiting.pop(0)
        seen += 1
        named = {field.name: field for field in part.fields}
        content = content_type(named.get("content-type"), part.digest)
        if isinstance(content, Fault) or part.depth > limits.depth:
            continue
        if content.name.startswith("multipart/"):
            children = children_of(part, content, limits)
            if not isinstance(children, Fault):
                prefix = f"{number}." if number else ""
                waiting[:0] = [(child, f"{prefix}{index}") for index, child in enumerate(children, 1)]
        elif content.name in ("text/plain", "text/html"):
            encoding = named["content-transfer-encoding"].value.lower() if "content-transfer-encoding" in named else b""
            octets = _decoded(part.body, encoding)
            if octets is not None:
                charset = content.parameters.get("charset", b"utf-8").decode("ascii", "replace").lower()
                codec = charset if charset in CHARSETS else "latin-1"
                found.append(Text(content.name, number or "1", octets.decode(codec, "replace")))
    return found


def _decoded(body: bytes, encoding: bytes) -> bytes | None:
    if encoding == b"base64":
        try:
            return binascii.a2b_base64(body.translate(None, b"\r\n \t"), strict_mode=True)
        except binascii.Error:
            return None
    return decodestring(body) if encoding == b"quoted-printable" else body
