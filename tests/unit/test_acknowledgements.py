"""What the server's answers to a publish mean: stored, not stored, or unknown; never anything in between (B17, B18)."""

import json

import pytest

from shared.bus.acknowledgements import acknowledged
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence


def refused(code: int) -> bytes:
    """Return a refusal with this code."""
    return json.dumps({"type": "x", "error": {"code": 503, "err_code": code, "description": "said"}}).encode()


@pytest.mark.parametrize("more", [{}, {"duplicate": True}])
def test_stored(more: dict[str, object]) -> None:
    """A PubAck of the very stream, also of a repetition."""
    assert acknowledged(json.dumps({"stream": "MAIL_0", "seq": 7, **more}).encode(), "MAIL_0", "s") == 7


@pytest.mark.parametrize("code", [10071, 10164])
def test_somebody_else_was_first(code: int) -> None:
    """The subject does not end where it was expected to."""
    with pytest.raises(WrongSequence):
        acknowledged(refused(code), "MAIL_0", "s")


@pytest.mark.parametrize("code", [10077, 10023, 10047, 10122])
def test_full(code: int) -> None:
    """The stream, the server or the account has no room."""
    with pytest.raises(StoreFull):
        acknowledged(refused(code), "MAIL_0", "s")


@pytest.mark.parametrize(
    "answer",
    [
        refused(10008),  # an election: the system is temporarily unavailable
        refused(10060),  # another stream was expected there
        refused(99999),  # of a later server
        json.dumps({"stream": "OTHER", "seq": 7}).encode(),
        json.dumps({"stream": "MAIL_0", "seq": 0}).encode(),
        json.dumps({"stream": "MAIL_0"}).encode(),
        b"+OK",
        b"",
    ],
)
def test_unknown(answer: bytes) -> None:
    """Whatever else is said, the message may or may not be stored: it is published again."""
    with pytest.raises(BusUnavailable):
        acknowledged(answer, "MAIL_0", "s")
