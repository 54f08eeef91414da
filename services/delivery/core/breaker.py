"""Leaves a destination alone that does not answer or turns us away, so that it does not use up everybody's places.

After some failures in a row the breaker opens: mail for the destination is deferred without a connection. When the
pause is over one message probes; if it gets through the breaker closes, else it opens for longer.
"""

from collections.abc import Iterable

import msgspec

from services.delivery.core import wording
from services.delivery.core.outcome import Bounced, Deferred, Delivered, Outcome

_UNREACHED = frozenset({"connect", "greeting", "ehlo"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens, and for how long; times in seconds."""

    failures: int
    first_pause: float
    longest_pause: float


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one destination; times are seconds of any steady clock."""

    failures: int = 0
    open_until: float = 0.0
    pause: float = 0.0
    probing: bool = False
    reason: str = ""
    """What the last failure was; it is told to all tenants, so that it quotes nothing a server said of one's mail."""


CLOSED = Breaker()


def may_try(breaker: Breaker, now: float) -> bool:
    """Return whether a message may go to the destination."""
    return not breaker.pause or (now >= breaker.open_until and not breaker.probing)


def trying(breaker: Breaker) -> Breaker:
    """Return the state while a message that may go is on its way: the first one after a pause is the only one."""
    return msgspec.structs.replace(breaker, probing=True) if breaker.pause else breaker


def after(breaker: Breaker, outcomes: Iterable[Outcome], now: float, limits: Limits) -> Breaker:
    """Return the state after an attempt that was on its way."""
    results = list(outcomes)
    unreached = [r for r in results if isinstance(r, Deferred) and _turned_away(r)]
    if not results or len(unreached) < len(results):
        if any(isinstance(r, Delivered | Bounced) or r.diagnosis.code for r in results):
            return CLOSED  # it speaks: what it says to single recipients is no matter of the connection
        return msgspec.structs.replace(breaker, probing=False)
    failures = breaker.failures + 1
    reason = _reason(unreached[0])
    if failures < limits.failures and not breaker.pause:
        return msgspec.structs.replace(breaker, failures=failures, reason=reason)
    if breaker.pause and not breaker.probing:
        return msgspec.structs.replace(breaker, reason=reason)  # began before the breaker opened
    pause = min(breaker.pause * 2 or limits.first_pause, limits.longest_pause)
    return Breaker(failures=failures, open_until=now + pause, pause=pause, reason=reason)


def _turned_away(result: Deferred) -> bool:
    """Return whether a deferral is the destination's word about us or itself, not about one sender, recipient or mail.

    What one tenant's domain or content has earned must not keep the mail of others waiting.
    """
    said = result.diagnosis
    if said.phase in _UNREACHED:
        return True
    turned_away = said.code == 421 or (result.kind == "reputation" and said.phase != "policy")
    return turned_away and not wording.of_one_sender(said.text)


def _reason(result: Deferred) -> str:
    """Return what to say of a failure: the server's words only if they came before it knew whose mail it is."""
    said = result.diagnosis
    if said.phase in _UNREACHED:
        return said.text
    what = "words about our reputation" if result.kind == "reputation" else "that it is closing"
    return f"it answered {said.code} {said.enhanced} at {said.phase}, {what}"
