"""Arguments of MAIL and RCPT: path and parameters (RFC 5321 §4.1.2, §4.1.1.11), read strictly.

Values keep their case. What is wrong comes back as the reply to give.
"""

import re
from functools import lru_cache

import msgspec

from shared.mail import reply
from shared.mail.address import Address, Fault, parse_address
from shared.mail.reply import Reply

MAIL_SYNTAX = "MAIL FROM:<address> [SP parameters]"
RCPT_SYNTAX = "RCPT TO:<address> [SP parameters]"
_MAIL_WRONG = reply.BAD_ARGUMENTS.with_(syntax=MAIL_SYNTAX)
_RCPT_WRONG = reply.BAD_ARGUMENTS.with_(syntax=RCPT_SYNTAX)

_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>(?: +(.*))?')
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x7e\u0080-\U0010ffff]+))?")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")  # RFC 3461 §4
_ORCPT = re.compile(r"[A-Za-z0-9-]+;(?:[!-*,-<>-~\u0080-\U0010ffff]|\+[0-9A-F]{2}|\\x\{[0-9A-F]+\})+")
_SIZE = re.compile(r"[0-9]{1,20}")  # RFC 1870 §4
ENVID_LIMIT = 100  # RFC 3461 §4.4
ORCPT_LIMIT = 500  # RFC 3461 §4.2
COMMANDS_KEPT = 1024
ENVELOPE_BYTES = 1 << 20
"""Most octets that are stored with a message besides itself."""
_RECIPIENTS_BYTES = ENVELOPE_BYTES * 3 // 4
"""What of it recipients may take; sender, subject and trace field are bounded by far less than the rest."""
_RECIPIENT_BYTES = 100
"""Of a recipient in an envelope, besides its address and ORCPT."""


class Sender(msgspec.Struct, frozen=True):
    """A MAIL command; `address` None is the null sender."""

    address: Address | None
    size: int = 0
    smtputf8: bool = False
    eight_bit: bool = False
    ret: str = ""
    envid: str = ""


class Destination(msgspec.Struct, frozen=True):
    """A RCPT command."""

    address: Address
    notify: str = ""
    orcpt: str = ""

    @property
    def octets(self) -> int:
        """Most octets it takes in an envelope, where quotes and backslashes stand for two."""
        return _RECIPIENT_BYTES + 2 * len((self.address.written + self.orcpt).encode())


def fits(taken: int, destination: Destination) -> bool:
    """Whether an envelope whose recipients take so many octets has room for another one."""
    return taken + destination.octets <= _RECIPIENTS_BYTES


@lru_cache(maxsize=COMMANDS_KEPT)  # a session says the same MAIL again and again
def parse_mail(argument: str) -> Sender | Reply:
    """Read what follows `MAIL `."""
    split = _split(argument, "FROM:")
    if split is None:
        return _MAIL_WRONG
    path, parameters = split
    address: Address | None = None
    if path:
        parsed = parse_address(path)
        if isinstance(parsed, Fault):
            return reply.BAD_SENDER_SYNTAX.with_(fault=parsed.reason)
        address = parsed
    size = 0
    ret = envid = ""
    smtputf8 = "SMTPUTF8" in parameters
    eight_bit = smtputf8
    for keyword, value in parameters.items():
        match keyword:
            case "SIZE" if value is not None and _SIZE.fullmatch(value):
                size = int(value)
            case "BODY" if value is not None and value.upper() in ("7BIT", "8BITMIME"):
                eight_bit = eight_bit or value.upper() == "8BITMIME"
            case "SMTPUTF8" if value is None:
                pass
            case "AUTH" if value is not None and (value == "<>" or _XTEXT.fullmatch(value)):
                pass  # RFC 4954 §5: accepted; we do not trust the client's word on another submitter
            case "RET" if value is not None and value.upper() in ("FULL", "HDRS"):
                ret = value.upper()
            case "ENVID" if value is not None and len(value) <= ENVID_LIMIT and _XTEXT.fullmatch(value):
                envid = value
            case "SIZE" | "BODY" | "SMTPUTF8" | "AUTH" | "RET" | "ENVID":
                return _MAIL_WRONG
            case _:
                return reply.PARAMETER_UNKNOWN.with_(parameter=keyword)
    if address is not None and not address.is_ascii and not smtputf8:
        return reply.NEEDS_SMTPUTF8  # RFC 6531 §3.5
    return Sender(address, size, smtputf8, eight_bit, ret, envid)


@lru_cache(maxsize=COMMANDS_KEPT)
def parse_rcpt(argument: str, smtputf8: bool) -> Destination | Reply:
    """Read what follows `RCPT `; `smtputf8` says whether the MAIL command asked for it."""
    split = _split(argument, "TO:")
    if split is None:
        return _RCPT_WRONG
    path, parameters = split
    address = parse_address(path)
    if isinstance(address, Fault):
        return reply.BAD_RECIPIENT_SYNTAX.with_(fault=address.reason)
    notify = orcpt = ""
    for keyword, value in parameters.items():
        match keyword:
            case "NOTIFY" if value is not None and _is_notify(value.upper()):
                notify = value.upper()
            case "ORCPT" if value is not None and len(value) <= ORCPT_LIMIT and _ORCPT.fullmatch(value):
                orcpt = value
            case "NOTIFY" | "ORCPT":
                return _RCPT_WRONG
            case _:
                return reply.PARAMETER_UNKNOWN.with_(parameter=keyword)
    if not address.is_ascii and not smtputf8:
        return reply.NEEDS_SMTPUTF8  # RFC 6531 §3.5
    return Destination(address, notify, orcpt)


def _is_notify(value: str) -> bool:
    words = value.split(",")
    known = {"SUCCESS", "FAILURE", "DELAY"}
    return value == "NEVER" or (len(words) == len(set(words)) and set(words) <= known)  # RFC 3461 §4.1


def _split(argument: str, keyword: str) -> tuple[str, dict[str, str | None]] | None:
    """Return path and parameters; None if the syntax is wrong."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    # Spaces after the colon are not in the grammar, but too many good clients send one.
    match = _PATH.fullmatch(argument[len(keyword) :].strip(" "))
    if match is None:
        return None
    parameters: dict[str, str | None] = {}
    for word in filter(None, (match[2] or "").split(" ")):  # SP, and no other white space
        parameter = _PARAMETER.fullmatch(word)
        if parameter is None or parameter[1].upper() in parameters:
            return None
        parameters[parameter[1].upper()] = parameter[2]
    return match[1], parameters
