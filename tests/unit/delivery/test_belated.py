"""Which messages wait for a withdrawal before they are tried."""

from datetime import UTC, datetime, timedelta

import pytest

from services.delivery.core.belated import BELATED_SECONDS, may_be_withdrawn

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("late_seconds", "deliveries", "waits"),
    [
        (0.0, 1, False),
        (BELATED_SECONDS, 1, False),
        (BELATED_SECONDS + 0.1, 1, True),
        (BELATED_SECONDS + 0.1, 2, False),
        (-3600.0, 1, False),  # clocks that differ
    ],
)
def test_waits_once_if_it_was_stored_late(late_seconds: float, deliveries: int, waits: bool) -> None:
    """And what was stored at once never does."""
    assert may_be_withdrawn(NOW, NOW + timedelta(seconds=late_seconds), deliveries) is waits
