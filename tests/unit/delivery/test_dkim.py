"""Which header fields a signature covers. Whether it verifies is for the judges to say."""

from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from services.delivery.core.dkim import sign

NAMES = (
    "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post",
)  # fmt: skip


def covered(mail: bytes) -> Counter[str]:
    """Return how often each field is named in the signature of a mail."""
    field = sign(mail, key=ed25519.Ed25519PrivateKey.generate(), domain="d.example", selector="s", now_seconds=1)
    tags = dict(part.strip().split(b"=", 1) for part in field.partition(b":")[2].split(b";"))
    return Counter(b"".join(tags[b"h"].split()).decode().lower().split(":"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [0, 1, 2])
def test_oversigned(name: str, times: int) -> None:
    """Each is named once more often than it occurs, so that none can be added on the way (RFC 6376 §8.15)."""
    others = "".join(f"{each}: x\r\n" for each in ("From",) if each != name)
    fields = f"{name}: x\r\n" * max(times, 1 if name == "From" else 0)
    count = fields.count("\r\n")
    assert covered((others + fields + "\r\nbody\r\n").encode())[name.lower()] == count + 1


def test_fields_of_transport_are_left_out() -> None:
    """What servers on the way add or change must not break the signature."""
    mail = b"Received: by x\r\nReturn-Path: <a@b.example>\r\nX-Spam: no\r\nFrom: a@d.example\r\n\r\nbody\r\n"
    assert not covered(mail).keys() & {"received", "return-path", "x-spam"}
