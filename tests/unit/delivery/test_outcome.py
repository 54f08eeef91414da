"""Judging replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import outcome
from services.delivery.core.outcome import Bounced, Deferred, Delivered, Phase, from_reply

TABLE: list[tuple[int, str, Phase, type, str, str]] = [
    (250, "2.0.0 stored as 7", "final", Delivered, "2.0.0", ""),
    (250, "stored", "final", Delivered, "2.0.0", ""),
    (251, "will forward", "final", Delivered, "2.0.0", ""),
    (221, "bye", "final", Deferred, "4.5.0", "infrastructure"),
    (354, "go on", "final", Deferred, "4.5.0", "infrastructure"),
    (999, "what", "final", Deferred, "4.5.0", "infrastructure"),
    (-1, "25O ok", "final", Deferred, "4.5.0", "infrastructure"),
    (354, "go", "rcpt", Deferred, "4.5.0", "infrastructure"),
    (250, "ok", "data", Deferred, "4.5.0", "infrastructure"),
    (450, "4.2.1 greylisted", "rcpt", Deferred, "4.2.1", "mailbox"),
    (451, "try later", "rcpt", Deferred, "4.3.0", "infrastructure"),
    (421, "too many connections", "mail", Deferred, "4.3.2", "reputation"),
    (452, "5.3.1 contradiction", "mail", Deferred, "4.3.1", "infrastructure"),
    (452, "Too many recipients", "rcpt", Deferred, "4.5.3", "infrastructure"),
    (452, "maximum number of RCPTs reached", "rcpt", Deferred, "4.5.3", "infrastructure"),
    (452, "4.3.1 too many recipients", "rcpt", Deferred, "4.3.1", "infrastructure"),
    (452, "insufficient system storage", "rcpt", Deferred, "4.3.1", "infrastructure"),
    (550, "5.1.1 no such user", "rcpt", Bounced, "5.1.1", "mailbox"),
    (550, "No such user here", "rcpt", Bounced, "5.1.1", "mailbox"),
    (550, "go away", "rcpt", Bounced, "5.0.0", "other"),
    (550, "4.1.1 contradiction", "rcpt", Bounced, "5.0.0", "other"),
    (552, "5.2.2 over quota", "rcpt", Bounced, "5.2.2", "full"),
    (552, "too many recipients", "rcpt", Deferred, "4.5.3", "infrastructure"),
    (552, "Mailbox is full", "rcpt", Deferred, "4.2.2", "full"),
    (552, "1 Requested mail action aborted, mailbox not found", "rcpt", Bounced, "5.1.1", "mailbox"),
    (552, "1 Requested mail action aborted, mailbox not found", "final", Bounced, "5.1.1", "mailbox"),
    (552, "mailbox over quota", "final", Bounced, "5.2.2", "full"),
    (552, "5.2.3 Message size exceeds fixed limit", "final", Bounced, "5.2.3", "size"),
    (551, "we do not relay", "rcpt", Bounced, "5.1.0", "mailbox"),
    (552, "too big", "mail", Bounced, "5.3.4", "size"),
    (554, "5.7.1 listed at Spamhaus", "mail", Bounced, "5.7.1", "reputation"),
    (554, "5.7.1 relay denied", "rcpt", Bounced, "5.7.1", "policy"),
    (554, "5.7.1 message looks like spam", "final", Bounced, "5.7.1", "content"),
    (554, "5.6.0 bad content", "final", Bounced, "5.6.0", "content"),
    (554, "no service", "greeting", Deferred, "4.3.2", "infrastructure"),
    (554, "5.7.1 listed by dnsbl", "greeting", Deferred, "4.7.1", "reputation"),
    (521, "host does not accept mail", "greeting", Deferred, "4.3.2", "infrastructure"),
    (550, "bad name", "ehlo", Deferred, "4.3.2", "infrastructure"),
]


@pytest.mark.parametrize(("code", "text", "phase", "kind_of", "enhanced", "kind"), TABLE)
def test_table(code: int, text: str, phase: Phase, kind_of: type, enhanced: str, kind: str) -> None:
    """Code, enhanced code, phase and text lead to the outcome RFC 5321 and RFC 3463 ask for."""
    result = from_reply(code, text, phase)
    assert isinstance(result, kind_of)
    assert result.diagnosis.enhanced == enhanced
    if not isinstance(result, Delivered):
        assert getattr(result, "kind", "") == kind


@pytest.mark.parametrize("code", [221, 354, 999, -1, 199, 600])
def test_nonsense_after_the_dot_is_ambiguous(code: int) -> None:
    """A reply to the final dot that makes no sense leaves open whether the message was taken."""
    result = from_reply(code, "?", "final")
    assert isinstance(result, Deferred)
    assert result.ambiguous
    assert not result.elsewhere


def test_elsewhere() -> None:
    """A failed session may be made up for at another exchanger; a greylisted recipient may not."""
    for result in (from_reply(421, "busy", "mail"), from_reply(554, "no", "greeting"), outcome.lost("x", "connect")):
        assert isinstance(result, Deferred)
        assert result.elsewhere
    result = from_reply(450, "later", "rcpt")
    assert isinstance(result, Deferred)
    assert not result.elsewhere


def test_only_a_gone_mailbox_is_gone() -> None:
    """Only a server's word about the mailbox leads to a suppression; policy, size, routing and our own words do not."""
    gone = [(550, "5.1.1 unknown"), (550, "user unknown"), (550, "5.2.1 disabled")]
    stays = [(550, "5.7.1 refused"), (552, "5.2.2 full"), (554, "5.6.0 content"), (550, "go away")]
    assert all(outcome.mailbox_gone(from_reply(code, text, "rcpt").diagnosis) for code, text in gone)
    assert not any(outcome.mailbox_gone(from_reply(code, text, "rcpt").diagnosis) for code, text in stays)
    assert not outcome.mailbox_gone(outcome.refused("5.1.2", "no such domain", "route", "routing").diagnosis)


@given(code=st.integers(-1, 1200), text=st.text(max_size=600), phase=st.sampled_from(["mail", "rcpt", "data", "final"]))
def test_any_reply(code: int, text: str, phase: Phase) -> None:
    """No reply raises, breaks a line, or is permanent without a 5xx; delivered needs a 25x to the dot."""
    result = from_reply(code, text, phase)
    said = result.diagnosis.text
    assert said == "".join(said.splitlines())
    assert all(ord(c) >= 32 for c in said)
    said.encode("utf-8")
    assert result.diagnosis.enhanced[0] == {Delivered: "2", Deferred: "4", Bounced: "5"}[type(result)]
    assert isinstance(result, Bounced) <= (500 <= code <= 599)
    assert isinstance(result, Delivered) <= (phase == "final" and 250 <= code <= 259)
