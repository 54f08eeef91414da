"""The end of the data and its dots."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.core.content import Content

LINES = st.lists(st.sampled_from([b"", b".", b"..", b"x", b".x", b"\n.\n", b"\r.\r", b"\x00\xff", b"\n.\r", b" "]))


def read(wire: bytes, cuts: list[int], limit: int = 1000) -> tuple[bytes | None, bytes]:
    """Feed octets cut at these places; return the message and what came behind its end."""
    content = Content(limit)
    edges = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    behind = None
    for start, end in pairwise(edges):
        piece = wire[start:end]
        if behind is None:
            behind = content.feed(piece)
        else:
            behind += piece
    assert behind is not None, "the end was not found"
    return content.whole(), behind


def sent(lines: list[bytes]) -> bytes:
    """Return a message as a client sends it: dots stuffed (RFC 5321 §4.5.2), then the end."""
    message = b"".join(line + b"\r\n" for line in lines)
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


@given(LINES, st.lists(st.integers(0, 200)))
def test_a_message_comes_out_as_it_went_in(lines: list[bytes], cuts: list[int]) -> None:
    """Whatever its lines and wherever the network cuts it; what follows is left for the next command."""
    message, behind = read(sent(lines) + b"NOOP\r\n.\r\n", cuts)
    assert message == b"".join(line + b"\r\n" for line in lines)
    assert behind == b"NOOP\r\n.\r\n"


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n\x00.\r\n"]
)
def test_no_other_end_is_taken_for_the_end(end: bytes) -> None:
    """A dot with anything but CRLF on both sides is content."""
    content = Content(1000)
    assert content.feed(b"a" + end + b"b") is None
    assert content.feed(b"\r\n.\r\n") == b""
    assert content.whole() == (b"a" + end + b"b\r\n").replace(b"\r\n.", b"\r\n")


@given(st.integers(0, 40), st.lists(st.integers(0, 200)))
def test_the_limit_is_exact(size: int, cuts: list[int]) -> None:
    """A message of the limit's size is whole, one octet more is too much; its end is found all the same."""
    wire = b"x" * size + b"\r\n.\r\nQUIT\r\n"
    for limit, whole in ((size + 2, True), (size + 1, False)):
        message, behind = read(wire, cuts, limit)
        assert (message is not None) == whole
        assert behind == b"QUIT\r\n"
