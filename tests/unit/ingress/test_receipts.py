"""What a client is told when no receipt can be looked at or written: the fault is ours, and of which kind is said."""

from pathlib import Path
from typing import Any, cast

import pytest

from services.ingress.core.refusal import Refusal
from services.ingress.core.repeats import Claim
from services.ingress.receipts import Receipts
from services.ingress.settings import IngressSettings
from shared.contract.errors import BusUnavailable, StoreFull
from shared.mail import reply
from shared.mail.reply import Reply

SETTINGS = IngressSettings(tls_certificate_file=Path("x"), tls_key_file=Path("x"))


class Failing:
    """A bucket that is empty and takes nothing."""

    def __init__(self, fault: Exception) -> None:
        """Fail with this at each write."""
        self._fault = fault

    async def get(self, _key: str) -> None:
        """Find nothing."""

    async def create(self, _key: str, _record: object) -> int:
        """Fail."""
        raise self._fault


@pytest.mark.parametrize(
    ("fault", "text"), [(StoreFull("full"), reply.STORE_FULL), (BusUnavailable("away"), reply.LOCAL_FAULT)]
)
async def test_no_receipt_can_be_written(fault: Exception, text: Reply) -> None:
    """A full store is told 452 4.3.1 here too, everything else 451 4.3.0."""
    receipts = Receipts(cast(Any, None), SETTINGS)
    receipts._bucket = cast(Any, Failing(fault))
    outcome = await receipts.open(Claim("key", "fingerprint"), "Q", "transactional", crowded=False)
    assert isinstance(outcome, Refusal)
    assert outcome.reply == text
