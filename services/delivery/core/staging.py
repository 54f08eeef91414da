"""What becomes of the mail of users who test: kept, sent elsewhere, only to some, or answered by a simulator.

The simulator knows the local parts of the sandbox: `bounce`, `defer+2x`, `greylist+2x`, each with an optional reply
such as `+552-5.2.2`; everybody else accepts.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from services.delivery.core import outcome
from services.delivery.core.outcome import Captured, Outcome
from shared.contract.envelope import Diagnosis, Recipient, RecipientState, Staging

HEADER = b"X-Postlane-Original-Recipient"
SIMULATOR = "simulator"
KEPT = Diagnosis(code=0, enhanced="2.0.0", text="kept to be looked at instead of being delivered", phase="policy")
_TIMES = re.compile(r"(\d{1,3})x")
_REPLY = re.compile(r"([45]\d\d)(?:-([45]\.\d{1,3}\.\d{1,3}))?")


class Plan(NamedTuple):
    """What to do with the recipients of a staged message."""

    deliver: tuple[Recipient, ...]
    """As ever."""
    capture: tuple[Recipient, ...] = ()
    simulate: tuple[Recipient, ...] = ()
    redirect: tuple[Recipient, ...] = ()
    """One message to `Staging.redirect_to` stands for all of them."""


def plan(staging: Staging | None, recipients: Sequence[Recipient]) -> Plan:
    """Return what becomes of each recipient."""
    everybody = tuple(recipients)
    if staging is None:
        return Plan(everybody)
    match staging.mode:
        case "deliver":
            return Plan(everybody)
        case "redirect" if staging.redirect_to:
            return Plan((), redirect=everybody)
        case "simulate":
            return Plan((), simulate=everybody)
        case "allow-list":
            allowed = tuple(r for r in everybody if any(_matches(p, r.address) for p in staging.allowed))
            return Plan(allowed, capture=tuple(r for r in everybody if r not in allowed))
        case _:  # capture; and a mode of a later version, for what is not understood must not leave
            return Plan((), capture=everybody)


def tries_real_mailboxes(staging: Staging | None) -> bool:
    """Return whether a bounce says something of the recipient itself, so that it may be suppressed."""
    return staging is None or staging.mode in ("deliver", "allow-list")


def leaves_nothing(staging: Staging | None) -> bool:
    """Return whether not even a report may leave."""
    return staging is not None and staging.mode == "simulate"


def stand_in(staging: Staging, recipients: Sequence[Recipient]) -> Recipient:
    """Return the one recipient of a redirected message."""
    return Recipient(number=recipients[0].number, address=staging.redirect_to, notify="NEVER")


def labelled(mail: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Put the recipients that were meant in front of a redirected mail."""
    lines = [HEADER + b": <" + r.address.encode("ascii", "backslashreplace") + b">\r\n" for r in recipients]
    return b"".join(lines) + mail


def simulated(recipient: Recipient, state: RecipientState) -> Outcome:
    """Return what the simulator answers to the next attempt at a recipient."""
    word, *options = recipient.address.rpartition("@")[0].lower().split("+")
    times = next((int(found[1]) for option in options if (found := _TIMES.fullmatch(option))), 1)
    written = next((found for option in options if (found := _REPLY.fullmatch(option))), None)
    code = int(written[1]) if written else 0
    enhanced = (written[2] or "") if written else ""
    match word:
        case "bounce":
            return _answer(code or 550, enhanced or ("" if code else "5.1.1"), "simulated refusal", "rcpt")
        case "defer" if state.attempts < times:
            return _answer(code or 451, enhanced or ("" if code else "4.7.1"), "simulated deferral", "final")
        case "greylist" if state.attempts < times:
            return _answer(code or 450, enhanced or ("" if code else "4.7.1"), "simulated greylisting", "rcpt")
        case _:
            return _answer(250, "2.0.0", "simulated delivery; nothing was sent", "final")


def kept() -> Captured:
    """Return the outcome of a recipient whose message is kept."""
    return Captured(diagnosis=KEPT)


def _answer(code: int, enhanced: str, text: str, phase: outcome.Phase) -> Outcome:
    return outcome.from_reply(code, f"{enhanced} {text}".strip(), phase, host=SIMULATOR)


def _matches(pattern: str, address: str) -> bool:
    """Whether an address is a pattern; `*` stands for any characters, and letters match in any case."""
    first, *others = pattern.lower().split("*")
    rest = address.lower()
    if not rest.startswith(first):
        return False
    rest = rest[len(first) :]
    if not others:
        return not rest
    *middle, last = others
    for piece in middle:  # each at its first place, so that no pattern makes much work
        _, found, rest = rest.partition(piece) if piece else ("", "*", rest)
        if not found:
            return False
    return rest.endswith(last)
