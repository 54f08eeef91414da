"""The octets of commands and mail as they go over the line (RFC 5321 §4.5.2)."""

import re

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def command(*words: bytes) -> bytes:
    """Join the words of a command. Errors: `ValueError` for a control character, which could start another command."""
    line = b" ".join(words)
    if _CONTROL.search(line):
        raise ValueError("a command must not contain control characters")
    return line


def in_ascii(text: str) -> str:
    """Write an address so that it can travel without SMTPUTF8 (RFC 6533 §3, EmbeddedUnicodeChar)."""
    return "".join(c if c.isascii() else f"\\x{{{ord(c):X}}}" for c in text)


def stuff(mail: bytes) -> bytes:
    """Double dots at line starts and end the last line (RFC 5321 §4.5.2). Every line of the mail ends in CRLF."""
    if not mail.endswith(b"\r\n"):
        mail += b"\r\n"
    if mail.startswith(b"."):
        mail = b"." + mail
    return mail.replace(b"\r\n.", b"\r\n..")


def stray_line_end(mail: bytes) -> bool:
    """Return whether a CR or LF stands alone: such a mail must not be sent, it could smuggle another one."""
    return len(mail) - len(mail.translate(None, b"\r\n")) != 2 * mail.count(b"\r\n")
