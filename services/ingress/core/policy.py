"""The content policies of a configuration: well-formed HTML, a way to unsubscribe. Findings, and what follows.

A policy is off, warns (the finding stands in the message's timeline) or refuses, naming the finding and its place.
"""

import re
from collections.abc import Iterable, Sequence
from html import unescape

import justhtml
import msgspec

from services.ingress.core.headers import Field
from services.ingress.core.markup import flaws
from services.ingress.core.mime import MimeLimits
from services.ingress.core.refusal import Refusal
from services.ingress.core.texts import Text, texts
from shared.contract.records import Configuration, Lane, Policy
from shared.mail import reply

FLAWS = 5
"""Flaws of one HTML part that are told."""
SENTENCE_LIMIT = 200
_URI = re.compile(rb"<\s*(?:https?|mailto):[^<>\s]+\s*>", re.IGNORECASE)
_LINK = re.compile(r"(?:https?://|mailto:)\S+", re.IGNORECASE)


class PolicyLimits(msgspec.Struct, frozen=True):
    """How much is looked at, and by what a link to unsubscribe is known."""

    html_characters: int
    """Of all parts together: reading HTML costs more than anything else that is done to a message."""
    unsubscribe_words: tuple[str, ...]
    mime: MimeLimits


class Finding(msgspec.Struct, frozen=True):
    """A remark on a message."""

    sentence: str
    policy: Policy
    """What it leads to."""


def asks(configuration: Configuration, lane: Lane) -> bool:
    """Whether any policy looks at the content of this configuration's mail."""
    return configuration.html_policy != "off" or (configuration.unsubscribe_policy != "off" and lane == "marketing")


def examine(
    fields: list[Field], body: bytes, configuration: Configuration, lane: Lane, limits: PolicyLimits
) -> list[Finding]:
    """Look at a message whose form is sound."""
    readable = texts(fields, body, limits.mime)
    found: list[Finding] = []
    if configuration.html_policy != "off":
        found += [Finding(sentence, configuration.html_policy) for sentence in _html(readable, limits)]
    if (
        configuration.unsubscribe_policy != "off"
        and lane == "marketing"
        and not can_unsubscribe(fields, readable, limits)
    ):
        sentence = "marketing mail needs a List-Unsubscribe header or a link to unsubscribe, and has neither"
        found.append(Finding(sentence, configuration.unsubscribe_policy))
    return found


def refusal(findings: Iterable[Finding]) -> Refusal | None:
    """Return the refusal of the first finding that leads to one."""
    for finding in findings:
        if finding.policy == "refuse":
            return Refusal(reply.AGAINST_POLICY.with_(finding=finding.sentence), finding.sentence)
    return None


def can_unsubscribe(fields: Sequence[Field], readable: Sequence[Text], limits: PolicyLimits) -> bool:
    """Whether a reader finds a way out: List-Unsubscribe (RFC 2369 §3.2), or a link that says so."""
    if any(field.name == "list-unsubscribe" and _URI.search(field.value) for field in fields):
        return True
    left = limits.html_characters
    for part in readable:
        if _has_link(part, limits, left):
            return True
        left -= len(part.text) if part.kind == "text/html" else 0
    return False


def _html(readable: Sequence[Text], limits: PolicyLimits) -> list[str]:
    sentences: list[str] = []
    left = limits.html_characters
    for part in readable:
        if part.kind != "text/html":
            continue
        left -= len(part.text)
        if left < 0:
            sentences.append(f"HTML (part {part.number}) is longer than the {limits.html_characters} that are examined")
            break
        for flaw in flaws(part.text, FLAWS):
            where = f"part {part.number}, line {flaw.line}" if flaw.line else f"part {part.number}"
            sentences.append(f"HTML is not well-formed ({where}): {flaw.what}"[:SENTENCE_LIMIT])
    return sentences


def _has_link(part: Text, limits: PolicyLimits, left: int) -> bool:
    """Whether a part has a link that says so; of HTML only so many characters are left to be read."""
    words = [word.lower() for word in limits.unsubscribe_words]
    if part.kind == "text/plain":
        text = part.text[: limits.html_characters]
        lowered = text.lower()
        return _LINK.search(text) is not None and any(word in lowered for word in words)
    inside, said = False, ""
    for event in justhtml.stream(part.text[: max(0, left)]):
        if event[0] == "start" and event[1][0] == "a":
            href = unescape(event[1][1].get("href") or "")
            inside, said = bool(_LINK.match(href.strip())), href
        elif event[0] == "text" and inside:
            said += " " + event[1]
        elif event[0] == "end" and event[1] == "a":
            if inside and any(word in " ".join(said.lower().split()) for word in words):
                return True
            inside = False
    return False
