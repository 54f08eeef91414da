"""What a client is told when the bus does not answer as it should."""

from pathlib import Path
from typing import Any, cast

import pytest

from services.ingress import spool
from services.ingress.settings import IngressSettings
from services.ingress.spool import Outcome, Spool
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.subjects import Place

SETTINGS = IngressSettings(tls_certificate_file=Path("x"), tls_key_file=Path("x"), store_seconds=5)
PLACE = Place(0, "transactional", 0, "c", "q")


class ScriptedBus:
    """A bus that answers by a script."""

    def __init__(self, *answers: Exception | None) -> None:
        """Take the answers of the stores to come."""
        self._answers = list(answers)

    async def store(self, *_arguments: Any, **_options: Any) -> int:
        """Answer a store."""
        answer = self._answers.pop(0)
        if answer is not None:
            raise answer
        return 1


class Proven:
    """A proof that holds."""

    def __init__(self, filled: float = 0.0) -> None:
        """Say how full the store is."""
        self.filled = filled

    async def awaited(self, _seconds: float) -> bool:
        """Say so."""
        return True


@pytest.mark.parametrize(
    ("answers", "again", "outcome"),
    [
        ((None,), False, "stored"),
        ((BusUnavailable("no answer"), None), False, "stored"),
        ((StoreFull("full"),), False, "full"),
        # The first try may lie there: whoever says "full" now makes a second copy of it.
        ((BusUnavailable("no answer"), StoreFull("full")), False, "unknown"),
        ((WrongSequence("it lies there"),), True, "stored"),
    ],
)
async def test_what_became_of_a_message(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[Exception | None, ...], again: bool, outcome: Outcome
) -> None:
    """Stored only after a PubAck, full only if no try can have been stored."""
    monkeypatch.setattr(spool, "FIRST_PAUSE_SECONDS", 0.0)
    made = Spool(cast(Any, ScriptedBus(*answers)), cast(Any, Proven()), SETTINGS, shards=1)
    assert await made.store(PLACE, b"x", again=again) == outcome


@pytest.mark.parametrize(("filled", "outcome"), [(79.9, "stored"), (80.0, "full")])
async def test_a_store_that_others_have_filled(filled: float, outcome: Outcome) -> None:
    """The room that deferred mail and records take is that of new mail too."""
    made = Spool(cast(Any, ScriptedBus(None)), cast(Any, Proven(filled)), SETTINGS, shards=1)
    assert await made.store(PLACE, b"x") == outcome
