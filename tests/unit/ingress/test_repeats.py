"""Which submissions are repetitions, and what their receipts lead to."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.ingress.core import repeats
from services.ingress.core.headers import parse_fields
from services.ingress.core.refusal import Refusal
from services.ingress.core.repeats import Claim, Done, Resume, Start, Submitted, UnderWay
from shared.contract.records import RepeatPolicy
from shared.contract.siblings import Receipt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(hours=24)
HEADER = "Idempotency-Key: order-17\r\nFrom: a@shop.example\r\nTo: b@y.example\r\nSubject: hello\r\n"


def submitted(header: str = HEADER, body: str = "Hi\r\n", **more: object) -> Submitted:
    fields = parse_fields(header.encode(), 100)
    assert isinstance(fields, list)
    made = Submitted("shop", "u-1", "a@shop.example", ("b@y.example", "c@y.example"), fields, body.encode())
    return msgspec.structs.replace(made, **more)


def claimed(header: str = HEADER, body: str = "Hi\r\n", **more: object) -> Claim:
    claim = repeats.claim(submitted(header, body, **more))
    assert isinstance(claim, Claim)
    return claim


@pytest.mark.parametrize(
    ("policy", "header", "asked"),
    [
        ("off", HEADER, False),
        ("header", HEADER, True),
        ("header", "Message-ID: <1@x>\r\n", False),
        ("content", "Message-ID: <1@x>\r\n", True),
        ("content", "Subject: nothing names it\r\n", False),
    ],
)
def test_only_who_asks_is_looked_up(policy: RepeatPolicy, header: str, asked: bool) -> None:
    assert repeats.claims(policy, {field.name for field in submitted(header).fields}) is asked


def test_a_repetition_may_be_written_anew() -> None:
    """Date, Message-ID, MIME boundaries and the order of recipients are made anew by clients; they do not count."""
    multipart = HEADER + (
        "Date: {date}\r\nMessage-ID: <{name}@shop.example>\r\n"
        'Content-Type: multipart/alternative; boundary="{name}"\r\n'
    )
    body = (
        "--{name}\r\nContent-Type: multipart/related; boundary=in{name}\r\n\r\n"
        "--in{name}\r\n\r\nHi\r\n--in{name}--\r\n--{name}--\r\n"
    )
    first = claimed(multipart.format(date="today", name="aaaa"), body.format(name="aaaa"))
    second = claimed(
        multipart.format(date="later", name="bbbbbb"),
        body.format(name="bbbbbb"),
        recipients=("c@y.example", "b@y.example"),
    )
    assert first == second


@pytest.mark.parametrize("boundary", ["0", "q"])
def test_a_boundary_takes_nothing_out_of_the_text(boundary: str) -> None:
    """A short one, or what only looks like one, does not make two messages alike: the second would be lost."""
    multipart = HEADER + f"Content-Type: multipart/mixed; boundary={boundary}\r\n"
    body = "--{0}\r\n\r\nsee ?boundary=0 and pay {1}\r\n--{0}--\r\n"
    first, second = (claimed(multipart, body.format(boundary, amount)) for amount in ("1", "1000"))
    assert first.key == second.key
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"body": "Ho\r\n"},
        {"header": HEADER.replace("hello", "other")},
        {"sender": "z@shop.example"},
        {"recipients": ("b@y.example",)},
    ],
)
def test_other_content_under_the_same_key_is_seen(changed: dict[str, object]) -> None:
    first, second = claimed(), claimed(**changed)  # type: ignore[arg-type]
    assert first.key == second.key
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        {"header": HEADER.replace("order-17", "order-18")},
        {"user": "u-2"},
        {"configuration": "second"},
    ],
)
def test_a_key_belongs_to_one_user(other: dict[str, object]) -> None:
    assert claimed().key != claimed(**other).key  # type: ignore[arg-type]


def test_without_the_header_everything_is_the_name() -> None:
    """Message-ID, envelope and body; a different one is another message, never a conflict."""
    header = "Message-ID: <1@shop.example>\r\nSubject: hello\r\n"
    assert claimed(header) == claimed(header)
    assert claimed(header).key != claimed(header, "Ho\r\n").key
    assert claimed(header).key != claimed(header.replace("<1@", "<2@")).key
    assert claimed(header).key != claimed(header, sender="z@shop.example").key


@pytest.mark.parametrize("value", ["", "two words", "x" * 256, "sch\u00f6n"])
def test_a_key_is_one_word(value: str) -> None:
    assert isinstance(repeats.claim(submitted(f"Idempotency-Key: {value}\r\n")), Refusal)


def test_two_keys_are_none() -> None:
    assert isinstance(repeats.claim(submitted(HEADER + "Idempotency-Key: other\r\n")), Refusal)


def receipt(**more: object) -> Receipt:
    made = Receipt(queue_id="Q1", at=NOW - timedelta(hours=1), fingerprint=claimed().fingerprint)
    return msgspec.structs.replace(made, **more)


def test_receipts() -> None:
    """None: first. Stored: done. Busy: wait. Of unknown outcome: the same queue ID again. Lapsed: first again."""
    unknown = receipt()
    for present, expected in (
        (None, Start(0)),
        (receipt(stored=True), Done("Q1")),
        (receipt(busy_until=NOW + timedelta(seconds=1)), UnderWay()),
        (receipt(busy_until=NOW), Resume(receipt(busy_until=NOW), 7)),
        (unknown, Resume(unknown, 7)),
        (receipt(stored=True, at=NOW - DAY), Start(7)),
    ):
        assert repeats.verdict(claimed(), present, 7, NOW, DAY) == expected


def test_a_reused_key_is_refused_for_good() -> None:
    """Stored or not: the key belongs to the first content."""
    for present in (receipt(stored=True), receipt()):
        refusal = repeats.verdict(claimed(body="Ho\r\n"), present, 7, NOW, DAY)
        assert isinstance(refusal, Refusal)
        assert str(refusal.reply).startswith("554 5.6.0 The Idempotency-Key was used for other content, queued as Q1;")
