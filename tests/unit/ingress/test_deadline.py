"""The header X-Expire-After."""

import pytest

from services.ingress.core.deadline import LONGEST_SECONDS, expire_after
from services.ingress.core.headers import Field
from shared.mail.address import Fault


def read(value: bytes) -> int | Fault | None:
    """Read a message with this header."""
    return expire_after({"x-expire-after": Field("x-expire-after", b"X-Expire-After:" + value)})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b" 90\r\n", 90), (b"90s\r\n", 90), (b" 10m \r\n", 600), (b"2 H\r\n", 7200), (b"3d\r\n", 259_200),
        (b"999999999d\r\n", LONGEST_SECONDS),
    ],
)  # fmt: skip
def test_read(value: bytes, seconds: int) -> None:
    """Seconds, or a number with a unit; bounded."""
    assert read(value) == seconds


@pytest.mark.parametrize("value", [b"\r\n", b" 0\r\n", b" -1\r\n", b" 1w\r\n", b" soon\r\n", b" 1 2\r\n", b" 1.5h\r\n"])
def test_faults(value: bytes) -> None:
    """Anything else is said to be wrong rather than ignored."""
    assert isinstance(read(value), Fault)


def test_absent() -> None:
    """Without the header there is no deadline of the message's own."""
    assert expire_after({"subject": Field("subject", b"Subject: x\r\n")}) is None
