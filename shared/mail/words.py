"""Encoded words (RFC 2047) of a header field, undone for people."""

from email.errors import HeaderParseError
from email.header import decode_header, make_header


def readable(text: str) -> str:
    """Undo encoded words; what cannot be undone, or would be no text, stays as it is."""
    try:
        found = str(make_header(decode_header(text)))
        found.encode()  # some charsets say half a character, which no page and no mail can hold
    except (HeaderParseError, LookupError, ValueError):
        return text
    return found
