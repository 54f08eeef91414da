"""What readers see of addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.core.masking import masked, masked_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("greatmind@x.org", "g*e*t*i*d@x.org"),
        ("<ann@example.org>", "<a*n@example.org>"),
        ("ann@example.org, bob@example.net: 550 no", "a*n@example.org, b*b@example.net: 550 no"),
        ('"ann smith"@example.org', '"*n* *m*t*"@example.org'),
        ("jürgen@müller.example", "j*r*e*@müller.example"),
        ("550 5.1.1 <x@y.example>: User unknown", "550 5.1.1 <x@y.example>: User unknown"),
        ("no address here @ all", "no address here @ all"),
        ("", ""),
    ],
)
def test_addresses_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    """Every second character before the @; the domain stays."""
    assert masked_text(text) == shown


@given(st.text())
def test_masking_twice_changes_nothing_more(text: str) -> None:
    """What is masked stays as it is, and keeps its length."""
    once = masked_text(text)
    assert masked_text(once) == once
    assert len(once) == len(text)


def test_whole_records_are_masked_but_for_message_ids() -> None:
    """Nested lists and objects, values and not names."""
    record = {"to": ["ann@x.org", {"last": "for ann@x.org"}], "message_id": "<abc@x.org>", "size": 5, "ok": None}
    assert masked(record) == {
        "to": ["a*n@x.org", {"last": "for a*n@x.org"}], "message_id": "<abc@x.org>", "size": 5, "ok": None,
    }  # fmt: skip
