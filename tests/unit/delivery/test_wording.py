"""What the words of well-known servers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import wording
from services.delivery.core.outcome import Bounced, Deferred, Phase, from_reply, mailbox_gone

REPLIES: list[tuple[int, str, Phase, str, str, bool]] = [
    # code, text, phase; enhanced status, kind, whether the mailbox is gone
    (550, "5.1.1 The email account that you tried to reach does not exist. 5.1.1 Please", "rcpt", "5.1.1",
     "mailbox", True),
    (550, "5.2.1 The email account that you tried to reach is disabled.", "rcpt", "5.2.1", "mailbox", True),
    (550, "5.2.1 The user you are trying to contact is receiving mail at a rate that prevents more", "rcpt",
     "5.2.1", "policy", False),
    (550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient x@y.example not found by SMTP address lookup", "rcpt",
     "5.1.10", "mailbox", True),
    (550, "5.1.10 the domain has a null MX", "rcpt", "5.1.10", "routing", False),
    (550, "5.4.1 Recipient address rejected: Access denied. AS(201806281)", "rcpt", "5.4.1", "mailbox", False),
    (550, "5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "rcpt", "5.5.0", "mailbox", True),
    (550, "5.5.0 Command not allowed", "rcpt", "5.5.0", "infrastructure", False),
    (554, "delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [-5]", "rcpt", "5.1.1",
     "mailbox", True),
    (550, "#5.1.0 Address rejected.", "rcpt", "5.1.0", "mailbox", False),
    (550, "[5.1.1] nobody", "rcpt", "5.1.1", "mailbox", True),
    (550, "sorry, no mailbox here by that name (#5.1.1)", "rcpt", "5.1.1", "mailbox", True),
    (553, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "rcpt", "5.7.1", "policy", False),
    (550, "5.7.1 No such user!", "rcpt", "5.7.1", "mailbox", False),
    (550, "5.1.1.2 is not welcome here", "rcpt", "5.0.0", "other", False),
    (550, "5.7.606 Access denied, banned sending IP [192.0.2.1]", "rcpt", "5.7.606", "reputation", False),
    (553, "5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.", "mail",
     "5.7.2", "reputation", False),
    (554, "5.7.1 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", "mail", "5.7.1", "reputation", False),
    (421, "4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
     "mail", "4.7.0", "reputation", False),
    (421, "4.7.28 Gmail has detected an unusual rate of email originating from your IP address", "final", "4.7.28",
     "reputation", False),
    # Of the sender, though it sounds like the recipient.
    (550, "5.1.0 <app@d.example>: Sender address rejected: User unknown in virtual mailbox table", "rcpt", "5.1.0",
     "policy", False),
    (550, "5.1.1 Sender address rejected: user unknown", "rcpt", "5.1.1", "policy", False),
    (550, "Verification failed for <app@d.example> Response: 550 5.1.1 user unknown Sender verify failed", "rcpt",
     "5.0.0", "other", False),
    (550, "Sender address does not exist", "rcpt", "5.0.0", "other", False),
    (550, "5.1.8 <app@d.example>: Domain not found", "rcpt", "5.1.8", "policy", False),
    (550, "5.1.7 bad address", "mail", "5.1.7", "policy", False),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "phase", "enhanced", "kind", "gone"), REPLIES)
def test_replies(code: int, text: str, phase: Phase, enhanced: str, kind: str, gone: bool) -> None:
    """Large providers and common servers are understood; what speaks of the sender suppresses no recipient."""
    result = from_reply(code, text, phase)
    assert isinstance(result, Bounced if code >= 500 else Deferred)
    assert (result.diagnosis.enhanced, result.kind, mailbox_gone(result.diagnosis)) == (enhanced, kind, gone)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("greylisted, try again in 300 seconds", 300),
        ("please retry after 5 minutes", 300),
        ("try again in 2 h", 7200),
        ("wait 90", 90),
        ("try again in 9999999 s", 4 * 3600),
        ("try again in 999999 s", 4 * 3600),
        ("try again in 99999 s", 4 * 3600),
        ("try again in 2 days", 4 * 3600),
        ("Graylisting in action, please come back in 00:04:59", 299),
        ("please come back in 295 seconds", 295),
        ("try again in about 5 minutes", 300),
        ("Please wait at least 5 min.", 300),
        ("Greylisted for 5 minutes, see https://x.example/", 300),
        ("deferred for 1 hour", 3600),
        ("Please try later in 10 mins", 600),
        ("retry-after: 120", 120),
        ("try again in 300s", 300),
        ("try again later", 0),
        ("try again after 14:30", 0),
        ("waited 300 seconds", 0),
    ],
)
def test_hints(text: str, seconds: int) -> None:
    """A wait a server asks for is understood and bounded."""
    assert wording.wait_hint(text) == seconds


@pytest.mark.parametrize(
    ("text", "greylisted"),
    [
        ("4.2.0 <x@y.example>: Recipient address rejected: Greylisted, see http://postgrey.example/", True),
        ("4.7.1 Graylisting in action, please come back in 00:04:59", True),
        ("4.7.1 you are grey-listed", True),
        ("4.7.1 greylisted by policy", True),
        ("4.7.1 try again later", False),
        ("4.2.2 mailbox full", False),
    ],
)
def test_greylisting_is_recognised(text: str, greylisted: bool) -> None:
    """By its name, which it nearly always says."""
    result = from_reply(451, text, "rcpt")
    assert isinstance(result, Deferred)
    assert result.greylisted is greylisted


@given(st.text(max_size=500))
def test_any_text(text: str) -> None:
    """No text raises, and no wait is longer than its limit."""
    assert 0 <= wording.wait_hint(text) <= wording.HINT_LIMIT_SECONDS
    status, _ = wording.split_enhanced(text)
    assert not status or wording.kind_of(status, text)
