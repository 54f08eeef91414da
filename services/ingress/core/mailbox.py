"""The one mailbox of a From or Sender field (RFC 5322 §3.4, RFC 6532), read strictly.

Groups, lists, routes and everything that could be read in two ways are faults: the domain checked here must be the
one every reader of the message sees.
"""

import re

from shared.mail.address import Address, Fault, parse_address

_QUOTED = re.compile(r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x20-\x7e\t])*"')
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]+")
_BARE = re.compile(r'(?:[^\s"<>(),;:\\@\[\]]+|"(?:[^"\\]|\\.)*")@[^\s"<>(),;:\\@\[\]]+')
_SPACE = " \t"
_SIMPLE = re.compile(  # most From fields: words or one quoted string, then an address in angle brackets
    r"[ \t]*+(?:\"[^\"\\\x00-\x08\x0a-\x1f\x7f]*+\"[ \t]*+|"
    r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\U0010ffff-]++[ \t]*+)*+)"
    r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]++@[A-Za-z0-9.-]++)>[ \t]*+"
)
_ENCODED_WORD = re.compile(r"=\?.+\?[BbQq]\?.*\?=")
COMMENT_DEPTH = 10


def parse_mailbox(value: str) -> Address | Fault:
    """Return the address of a field that holds exactly one mailbox."""
    simple = _SIMPLE.fullmatch(value)
    if simple is not None:
        return _undisguised(simple[1])
    return read_words(value)


def read_words(value: str) -> Address | Fault:
    """Read a field word by word."""
    address: str | None = None
    words = 0
    position = 0
    while position < len(value):
        char = value[position]
        if char in _SPACE:
            position += 1
            continue
        if char == "(":
            end = _comment_end(value, position)
            if end is None:
                return Fault("a comment is malformed")
            position = end
            continue
        if address is not None:
            return Fault("there is more than one address" if char in ",;" else "there is text after the address")
        if char == "<":
            close = _angle_end(value, position)
            if close is None:
                return Fault("an angle bracket is not closed")
            address = value[position + 1 : close].strip(_SPACE)
            position = close + 1
            continue
        bare = _BARE.match(value, position)
        if bare is not None:
            if words:
                return Fault("a name with an @ needs quotes")
            address = bare[0]
            position = bare.end()
            continue
        word = _QUOTED.match(value, position) or _ATOM.match(value, position)
        if word is None:
            return Fault("there is a group or a list" if char in ":;," else f"{char!r} is not allowed unquoted")
        words += 1
        position = word.end()
    if address is None:
        return Fault("there is no address")
    return _undisguised(address)


def _undisguised(text: str) -> Address | Fault:
    address = parse_address(text)
    if isinstance(address, Address) and _ENCODED_WORD.search(address.local):
        # RFC 2047 §5 forbids it: readers that decode it all the same show another address, of any domain.
        return Fault("an encoded word stands in the address")
    return address


def _angle_end(value: str, start: int) -> int | None:
    position = start + 1
    while position < len(value):
        if value[position] == '"':
            quoted = _QUOTED.match(value, position)
            if quoted is None:
                return None
            position = quoted.end()
            continue
        if value[position] == ">":
            return position
        if value[position] in "<(),;":
            return None
        position += 1
    return None


def _comment_end(value: str, start: int) -> int | None:
    depth = 0
    position = start
    while position < len(value):
        char = value[position]
        if char == "\\":
            position += 1
        elif char == "(":
            depth += 1
            if depth > COMMENT_DEPTH:
                return None
        elif char == ")":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return None
