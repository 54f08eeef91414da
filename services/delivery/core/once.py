"""At most once: for configurations that would rather lose a message than have it arrive twice.

Before such an attempt a record says that it has begun. Whoever finds that record as the last one knows that the attempt
was broken off, perhaps after the final dot, and gives those recipients up instead of trying them again.
"""

from datetime import datetime

import msgspec

from services.delivery.core.outcome import Bounced, Deferred, Outcome
from services.delivery.core.step import Known
from shared.contract.envelope import FINAL, Diagnosis, RecipientState

BEGUN = Diagnosis(code=0, enhanced="4.4.2", text="an attempt has begun and its end is not known yet", phase="final")
GIVEN_UP = "; it may have been delivered, and is not sent again since this configuration asks for at most once"


def begun(state: Known, now: datetime) -> tuple[RecipientState, ...]:
    """Return the states to record before an attempt: every open recipient is in an attempt of unknown end."""
    return tuple(
        r if r.status in FINAL else msgspec.structs.replace(r, status="deferred", at=now, last=BEGUN)
        for r in state.recipients
    )


def broken_off(state: Known) -> dict[int, Outcome]:
    """Return the outcomes of recipients whose last attempt began and was never recorded."""
    said = "the attempt was broken off by a fault of this mail system"
    return {r.number: _given_up(msgspec.structs.replace(BEGUN, text=said)) for r in state.open if r.last == BEGUN}


def settled(outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
    """Return the outcomes with every ambiguous one made final."""
    return {
        number: _given_up(result.diagnosis) if isinstance(result, Deferred) and result.ambiguous else result
        for number, result in outcomes.items()
    }


def _given_up(last: Diagnosis) -> Bounced:
    # RFC 3463 §3.5: X.4.2, bad connection; permanent only because nobody tries again.
    return Bounced(
        diagnosis=msgspec.structs.replace(last, enhanced="5.4.2", text=last.text + GIVEN_UP), kind="infrastructure"
    )
