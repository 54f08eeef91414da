"""Why a message is where it is, and why a submission was refused: one sentence each, for a person."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from shared.contract.envelope import FINAL, HELD_BY_OPERATOR, Diagnosis, RecipientState
from shared.contract.events import SubmissionRefused
from shared.contract.standing import Standing

OVERDUE_SECONDS = 120
"""A next attempt this long past is called overdue."""


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """All that the sentence about a message depends on."""

    status: str
    accepted_at: datetime
    updated_at: datetime
    recipients: tuple[RecipientState, ...]
    attempt: int = 0
    """Attempts committed; 0: none yet."""
    next_attempt_at: datetime | None = None
    expires_at: datetime | None = None
    explanation: str = ""
    reason: str = ""
    by: str = ""
    accepted_known: bool = True
    missing_since: datetime | None = None
    """When the audit raised an alarm because the message is nowhere."""


def why(situation: Situation, standing: Standing | None, now: datetime) -> str:
    """Explain where a message is. `standing` is the configuration's present one, if known."""
    s = situation
    match s.status:
        case "queued":
            sentence = _queued(s, standing)
        case "held" if s.reason == HELD_BY_OPERATOR:
            said = _plain(s.explanation) or "an operator holds the message"
            sentence = f"Held: {said}; it goes on its way when it is released{_before(s)}"
        case "held":
            reason = s.reason or s.explanation or _standing_reason(standing) or "sending is not allowed at present"
            sentence = f"Held: {_plain(reason)}; it goes on its way when sending is allowed again{_before(s)}"
        case "deferred":
            sentence = f"Deferred: {_last_word(s, 'deferred')} (attempt {s.attempt}), {_next(s, now)}"
        case "delivered":
            sentence = f"Delivered at {moment(s.updated_at)}: {_last_word(s, 'delivered')}"
        case "bounced":
            sentence = f"Bounced: {_last_word(s, 'bounced')}; it will not be tried again"
        case "expired":
            sentence = f"Expired after {_attempts(s)}: {_last_word(s, 'expired')}; it will not be tried again"
        case "suppressed":
            sentence = f"Suppressed: {_last_word(s, 'suppressed')}; nothing was sent"
        case "captured":
            looked_at = "look at it with `postlane captured show`"
            sentence = f"Captured at {moment(s.updated_at)}: the user's mail is staged, nothing was sent; {looked_at}"
        case "dropped":
            by = f" by {s.by}" if s.by else ""
            reason = f": {_plain(s.reason)}" if s.reason else ""
            sentence = f"Dropped{by} at {moment(s.updated_at)}{reason}"
        case other:
            sentence = f"{other.capitalize()}: {_plain(s.explanation) or 'no more is known'}"
    if any(r.possible_duplicate for r in s.recipients):
        sentence += "; an attempt was broken off when its outcome was not known, so a copy may have arrived twice"
    sentence += _share(s)
    if s.missing_since is not None and s.status not in FINAL:
        alarm = f"an alarm was raised at {moment(s.missing_since)}"
        sentence = f"This message is missing from the queue: {alarm}. What was known of it last: {sentence}"
    return sentence


def moment(at: datetime) -> str:
    """Write a time to the second, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def _queued(s: Situation, standing: Standing | None) -> str:
    if s.attempt:
        return f"Queued: {_plain(s.explanation) or 'it waits for its next attempt'}"
    waiting = "no attempt has been committed yet"
    if standing is not None and standing.state == "suspended":
        waiting = f"sending for {standing.domain} is suspended: {_plain(standing.reason)}"
    return f"Queued: accepted at {moment(s.accepted_at)}, {waiting}"


def _standing_reason(standing: Standing | None) -> str:
    if standing is None or standing.state != "suspended":
        return ""
    return f"sending for {standing.domain} is suspended: {standing.reason}"


def _next(s: Situation, now: datetime) -> str:
    if s.next_attempt_at is None:
        return "the next attempt is not scheduled yet"
    late = (now - s.next_attempt_at).total_seconds()
    if late > OVERDUE_SECONDS:
        return f"the next attempt was due at {moment(s.next_attempt_at)} and is overdue"
    return f"next attempt at {moment(s.next_attempt_at)}"


def _before(s: Situation) -> str:
    return f", or expires at {moment(s.expires_at)}" if s.expires_at is not None else ""


def _attempts(s: Situation) -> str:
    return "1 attempt" if s.attempt == 1 else f"{s.attempt} attempts"


def _last_word(s: Situation, status: str) -> str:
    """Return the newest diagnosis among the recipients of a status."""
    told = [r for r in s.recipients if r.status == status and r.last is not None]
    if not told:
        return _plain(s.explanation) or "no reason was recorded"
    newest = max(told, key=lambda r: (r.at or s.accepted_at, -r.number))
    return diagnosis(newest.last) if newest.last is not None else ""


def diagnosis(last: Diagnosis) -> str:
    """Write a diagnosis as a clause: the reply, who gave it, and to what."""
    reply = " ".join(part for part in (str(last.code) if last.code else "", last.enhanced, _plain(last.text)) if part)
    where = last.host or last.address
    if not where:
        return reply or "no reason was recorded"
    address = f" [{last.address}]" if last.address and last.address != where else ""
    relation = "by" if last.code else "at"
    return f"{reply} {relation} {where}{address}".strip()


def _share(s: Situation) -> str:
    """Tell how the recipients are spread, if they are not all in the same state."""
    counts = Counter(r.status for r in s.recipients)
    if len(counts) < 2:
        return ""
    return f" ({', '.join(f'{count} {status}' for status, count in counts.most_common())})"


def _plain(text: str) -> str:
    """Make text fit into a sentence: one line, no final stop."""
    return " ".join(text.split()).rstrip(".")


_ADVICE: Sequence[tuple[str, str]] = (
    ("5.7.8", "check the username, the password and whether the client's address is allowed by a rule"),
    ("5.7.0", "use STARTTLS and log in before sending"),
    ("5.7.11", "use STARTTLS before logging in"),
    ("5.7.1", "check the sender's domain, its verification (`postlane domain show`) and the access rules"),
    ("5.5.2", "correct the client: lines must end in CRLF and follow SMTP"),
    ("5.5.4", "correct the command's arguments"),
    ("5.1.3", "correct the recipient's address"),
    ("5.1.7", "correct the sender's address"),
    ("5.6.0", "correct the message's content"),
    ("5.6.1", "send text/plain or text/html without attachments"),
    ("5.3.4", "make the message smaller"),
    ("4.5.3", "send the other recipients in another message"),
    ("4.7.1", "send more slowly, or ask the operator for a higher quota"),
    ("4.7.0", "wait and reconnect"),
)


def refusal(event: SubmissionRefused) -> str:
    """Explain a refusal to those who may know the true reason."""
    who = f" by {event.username}" if event.username else ""
    whence = f" from {event.client_address}" if event.client_address else ""
    status = f"{event.code} {event.enhanced}".strip()
    cure = next((advice for enhanced, advice in _ADVICE if enhanced == event.enhanced), "")
    if not cure:
        cure = "try again later" if event.code < 500 else "correct the submission and send it again"
    reason = _plain(event.reason) or _plain(event.reply)
    return f"Refused with {status} at {event.phase} on {moment(event.at)}{who}{whence}: {reason}; {cure}"
