"""Which recipients of a record are to be reported on: those that failed, wait for long, or were relayed (RFC 3461)."""

from datetime import datetime, timedelta

from services.delivery.core import outcome
from shared.contract.envelope import FINAL, Envelope, Recipient, RecipientState
from shared.contract.events import AnyStatus, MessageAttempted


def failed(before: tuple[RecipientState, ...], after: AnyStatus) -> tuple[RecipientState, ...]:
    """Return the recipients whose failure became final with the record `after`."""
    was = {r.number: r.status for r in before}
    return tuple(
        r
        for r in after.recipients
        if r.status in ("bounced", "expired") and was.get(r.number) not in FINAL and r.at == after.at
    )


def mailbox_gone(state: RecipientState, beside: tuple[RecipientState, ...]) -> bool:
    """Return whether a recipient was refused because its mailbox does not exist.

    `beside`: all recipients of the message; what a server said of several at once, after RCPT, names none of them.
    """
    if state.status != "bounced" or state.last is None or not outcome.mailbox_gone(state.last):
        return False
    return state.last.phase == "rcpt" or sum(r.last == state.last and r.at == state.at for r in beside) == 1


def delayed(
    before: tuple[RecipientState, ...], after: AnyStatus, received_at: datetime, seconds: float
) -> tuple[RecipientState, ...]:
    """Return the recipients that with the record `after` have waited for `seconds`, and had not the time before."""
    limit = received_at + timedelta(seconds=seconds)
    if not isinstance(after, MessageAttempted) or seconds <= 0 or after.at < limit or after.next_attempt_at is None:
        return ()
    was = {r.number: r for r in before}

    def told(number: int) -> bool:
        last = was.get(number)
        return last is not None and last.status == "deferred" and last.at is not None and last.at >= limit

    return tuple(r for r in after.recipients if r.status == "deferred" and not told(r.number))


def relayed(before: tuple[RecipientState, ...], after: AnyStatus) -> tuple[RecipientState, ...]:
    """Return the recipients delivered by the record `after` to a server that reports no success itself."""
    if not isinstance(after, MessageAttempted):
        return ()
    was = {r.number: r.status for r in before}
    reports = {number: tried.dsn for tried in after.exchangers for number in tried.recipients}
    return tuple(
        r
        for r in after.recipients
        if r.status == "delivered"
        and was.get(r.number) not in FINAL
        and r.at == after.at
        and not reports.get(r.number, False)
    )


def wanted(recipient: Recipient, word: str) -> bool:
    """Return whether a sender wants to hear of `word`: FAILURE, DELAY or SUCCESS (RFC 3461 §4.1)."""
    asked = {part.strip().upper() for part in recipient.notify.split(",") if part.strip()}
    return word in asked if asked else word != "SUCCESS"


def of_interest(envelope: Envelope, states: tuple[RecipientState, ...], word: str) -> tuple[RecipientState, ...]:
    """Return those of the states whose sender wants to hear of `word`."""
    asked = {r.number: r for r in envelope.recipients}
    return tuple(r for r in states if r.number in asked and wanted(asked[r.number], word))
