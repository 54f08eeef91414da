"""What a spam filter said, in the words of rspamd's protocol, and what follows from it."""

import msgspec

from services.ingress.core.policy import SENTENCE_LIMIT, Finding
from services.ingress.core.refusal import Refusal
from shared.contract.records import Policy
from shared.mail import reply

SPAM = frozenset({"reject", "rewrite subject", "add header", "quarantine", "discard"})
"""Actions by which the filter says spam; `greylist` and `soft reject` are advice for mail from strangers."""
SYMBOLS = 3
"""Reasons told, the weightiest first."""


class _Symbol(msgspec.Struct, frozen=True):
    name: str = ""
    score: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """The parts of the filter's answer that matter here."""

    action: str
    score: float = 0.0
    required_score: float = 0.0
    symbols: dict[str, _Symbol] = {}


def read(answer: bytes) -> Verdict | None:
    """Read the filter's answer; None if it is not one."""
    try:
        return msgspec.json.decode(answer, type=Verdict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def finding(verdict: Verdict, policy: Policy) -> Finding | None:
    """Return the remark a verdict leads to, None if the message is not taken for spam."""
    if verdict.action not in SPAM:
        return None
    weightiest = sorted(verdict.symbols.values(), key=lambda each: -each.score)[:SYMBOLS]
    why = ", ".join(each.name[:40] for each in weightiest if each.score > 0)
    score = f"{verdict.score:.1f} of {verdict.required_score:.1f}"
    sentence = f"the spam filter takes it for spam ({verdict.action[:20]}, {score}{': ' if why else ''}{why})"
    return Finding(sentence[:SENTENCE_LIMIT], policy)


def unreachable(fault: str, policy: Policy, defer: bool) -> Finding | Refusal:
    """Decide what follows when the filter does not answer."""
    if defer and policy == "refuse":
        return Refusal(reply.FILTER_UNREACHABLE, f"the spam filter did not answer: {fault}")
    return Finding(f"the spam filter did not answer: {fault}"[:SENTENCE_LIMIT], "warn")
