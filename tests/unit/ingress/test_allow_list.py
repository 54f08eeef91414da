"""The imported list of allowed addresses: until its date, for its configuration, and nothing after it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.ingress.core.access import peer_address
from services.ingress.core.allow_list import admits
from shared.contract.records import Configuration

AT = datetime(2026, 1, 1, tzinfo=UTC)
LISTED = Configuration(
    id="c", instance="i", name="c", domain="shop.example", selector="s", dkim_value="", spf_value="", created_at=AT,
    updated_at=AT, allowed_addresses=("192.0.2.0/24", "198.51.100.7", "2001:db8::/64"),
    allowed_until=AT + timedelta(days=183),
)  # fmt: skip


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("2001:db8::5", True),
        ("2001:db8:1::5", False),
    ],
)
def test_the_list_admits_until_its_date(address: str, inside: bool) -> None:
    """An address is in the list or not; after the date nobody is."""
    assert admits(LISTED, peer_address(address), AT + timedelta(days=182)) is inside
    assert not admits(LISTED, peer_address(address), AT + timedelta(days=183))


def test_no_list_admits_nobody() -> None:
    """A configuration without imported entries, or without a date, has only its rules."""
    bare = msgspec.structs.replace(LISTED, allowed_addresses=())
    assert not admits(bare, peer_address("192.0.2.9"), AT)
    assert not admits(msgspec.structs.replace(LISTED, allowed_until=None), peer_address("192.0.2.9"), AT)
    assert not admits(LISTED, None, AT)
