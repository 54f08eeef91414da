"""The end of DATA: only CRLF.CRLF, wherever the network cuts."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingress.core.transparency import DataDecoder


def decode(stream: bytes, cuts: list[int], limit: int = 10_000) -> tuple[bytes, bytes] | None:
    """Feed a stream in pieces; return message and rest, or None if no end came."""
    decoder = DataDecoder(limit)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, stop in pairwise(edges):
        rest = decoder.feed(stream[start:stop])
        if rest is not None:
            return decoder.message(), rest + stream[stop:]
    return None


pieces = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\0", b"\r\n.", b"\r\n.\r", b"\n.\n", b"\r.\r", b"MAIL"]),
    max_size=30,
).map(b"".join)


@given(pieces, st.lists(st.integers(0, 200), max_size=6))
@example(b".\r\n", [])
@example(b"a\r\n.\r\nrest", [3, 4, 5])
def test_agrees_with_the_rule(stream: bytes, cuts: list[int]) -> None:
    """However the stream is cut, the first CRLF.CRLF ends it, and one dot is taken from each line that has one."""
    whole = b"\r\n" + stream
    end = whole.find(b"\r\n.\r\n")
    found = decode(stream, cuts)
    if end < 0:
        assert found is None
    else:
        assert found is not None
        message = re.sub(rb"\r\n\.", b"\r\n", whole[: end + 2])[2:]
        assert found == (message, whole[end + 5 :])


@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\r\n.\r\r\n", b"\n\r.\n\r", b"\r\n.\r"]
)
def test_nothing_else_ends_a_message(end: bytes) -> None:
    """Every other way of writing the end is content, at every cut."""
    stream = b"text" + end + b"MAIL FROM:<evil@x.example>"
    for cut in range(len(stream)):
        assert decode(stream, [cut]) is None


def test_size_counts_without_dots() -> None:
    """The limit is on the message, not on its transparency dots."""
    stream = b"..\r\n" * 10 + b".\r\n"
    assert decode(stream, [], 30) == (b".\r\n" * 10, b"")
    decoder = DataDecoder(29)
    assert decoder.feed(stream) == b""
    assert decoder.trouble == "too large"


@pytest.mark.parametrize("ending", [b"", b"..\r\n", b"..\r\r\n"])
def test_a_message_of_exactly_the_limit_fits_at_every_cut(ending: bytes) -> None:
    """The octets that end a message are none of its own, also while half of them are still on their way."""
    content = b"x" * 10 + b"\r\n" + ending
    limit = len(content) - content.count(b"\r\n.")
    for cut in range(len(content) + 3):
        decoder = DataDecoder(limit)
        rest = [decoder.feed(piece) for piece in ((content + b".\r\n")[:cut], (content + b".\r\n")[cut:])]
        assert rest == [None, b""]
        assert decoder.trouble == ""
        tight = DataDecoder(limit - 1)
        for piece in ((content + b".\r\n")[:cut], (content + b".\r\n")[cut:]):
            tight.feed(piece)
        assert tight.trouble == "too large"


@given(st.lists(st.sampled_from([b"a", b"\r\n", b"..\r\n", b"\r\n.", b"\r", b"."]), max_size=20), st.integers(0, 12))
def test_size_is_the_same_at_every_cut(pieces: list[bytes], limit: int) -> None:
    """What is counted piece by piece is what is counted at once."""
    stream = b"".join(pieces) + b"\r\n.\r\n"
    found = decode(stream, [])
    assert found is not None
    slow = DataDecoder(limit)
    for octet in stream[: len(stream) - len(found[1])]:
        slow.feed(bytes([octet]))
    assert slow.trouble == ("too large" if len(found[0]) > limit else "")


def test_dots_beyond_the_limit_are_counted_once() -> None:
    """A message that is too large but for its dots, in small pieces: counted anew with each, it took an hour."""
    decoder = DataDecoder(30_000_000)
    decoder.feed(b"..\r\n" * 7_600_000)
    for _ in range(100_000):
        decoder.feed(b"..\r\n")
    assert decoder.trouble == ""
    assert decoder.feed(b".\r\n") == b""
    assert decoder.message() == b".\r\n" * 7_700_000


def test_endless_line_is_not_held() -> None:
    """A line without an end is given up after 1001 octets, and the end is still found."""
    decoder = DataDecoder(1 << 20)
    for _ in range(100):
        assert decoder.feed(b"x" * 1000) is None
        assert decoder.held <= 2002
    assert decoder.trouble == "line too long"
    assert decoder.discarded > 90_000
    assert decoder.feed(b"\r\n.\r\nQUIT") == b"QUIT"


def test_too_large_is_not_held() -> None:
    """A message beyond the limit is given up, and the end is still found across a cut."""
    decoder = DataDecoder(1000)
    for _ in range(50):
        assert decoder.feed(b"x" * 98 + b"\r\n") is None
    assert decoder.trouble == "too large"
    assert decoder.held < 10
    assert decoder.feed(b".") is None
    assert decoder.feed(b"\r") is None
    assert decoder.feed(b"\nNOOP") == b"NOOP"


def test_longest_line_passes() -> None:
    """998 octets and a dot in front are no trouble."""
    decoder = DataDecoder(10_000)
    assert decoder.feed(b".." + b"x" * 997 + b"\r\n.\r\n") == b""
    assert decoder.trouble == ""
    assert decoder.message() == b"." + b"x" * 997 + b"\r\n"
