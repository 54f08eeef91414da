"""Reports on failures."""

import email
import email.policy
from datetime import UTC, datetime
from email.message import Message
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.delivery.core import dsn, reporting
from shared.contract.envelope import Diagnosis, Envelope, Recipient, RecipientState
from shared.contract.records import Configuration
from shared.mail.ids import new_queue_id, parse_queue_id

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORIGINAL = b"From: a@d.example\r\nSubject: hi\r\nTo: x@y.example\r\n\r\nsecret body\r\n"
ENVELOPE = Envelope(
    queue_id=new_queue_id(1_790_000_000_000, b"x" * 13), instance="i", configuration="c", domain="d.example",
    lane="transactional", sender="app@d.example", received_at=NOW, expires_at=None, size=len(ORIGINAL),
    recipients=(
        Recipient(number=1, address="x@y.example", orcpt="rfc822;old+2Bx@y.example"),
        Recipient(number=2, address="z@y.example"),
    ),
    sha256=sha256(ORIGINAL).hexdigest(), message_id="<m1@d.example>", subject="hi", envid="E+2D1",
)  # fmt: skip
CONFIGURATION = Configuration(
    id="c", instance="i", name="n", domain="d.example", selector="s", dkim_value="", spf_value="", created_at=NOW,
    updated_at=NOW,
)  # fmt: skip
FAILED = (
    RecipientState(
        number=1, address="x@y.example", status="bounced", at=NOW,
        last=Diagnosis(code=550, enhanced="5.1.1", text="no such user", host="mx.y.example", phase="rcpt"),
    ),
    RecipientState(
        number=2, address="z@y.example", status="expired", at=NOW,
        last=Diagnosis(code=0, enhanced="4.4.1", text="connection refused", host="mx.y.example", phase="connect"),
    ),
)  # fmt: skip


def made(failed: tuple[RecipientState, ...] = FAILED, **changes: object) -> dsn.Report:
    """Return a report."""
    envelope = msgspec.structs.replace(ENVELOPE, **changes)
    return dsn.report(
        envelope, failed, attempt=1, to="app@d.example", original=ORIGINAL, reporting_mta="relay.example", now=NOW
    )


def parts(report: dsn.Report) -> list[Message]:
    """Parse a report with the standard library and return its three parts."""
    message = email.message_from_bytes(report.mail)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    found = message.get_payload()
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, Message)]


def test_structure() -> None:
    """A report is a multipart/report of words, fields per recipient, and the original header without its body."""
    report = made()
    words, status, original = parts(report)
    assert words.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "text/rfc822-headers"
    message, first, second = (part for part in status.get_payload() if isinstance(part, Message))
    assert message["Reporting-MTA"] == "dns; relay.example"
    assert message["Original-Envelope-Id"] == "E-1"
    assert (first["Final-Recipient"], first["Action"], first["Status"]) == ("rfc822; x@y.example", "failed", "5.1.1")
    assert first["Original-Recipient"] == "rfc822;old+x@y.example"
    assert first["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"
    assert first["Remote-MTA"] == "dns; mx.y.example"
    assert (second["Action"], second["Status"]) == ("failed", "5.4.7")
    assert first["Last-Attempt-Date"]
    assert "Last-Attempt-Date" not in second  # nothing was tried when the lifetime ended
    assert b"secret body" not in report.mail
    assert b"Subject: hi" in report.mail


def test_an_original_recipient_beyond_ascii() -> None:
    """It comes back as it was meant, in a form that every server takes (RFC 6533 §3)."""
    recipient = Recipient(number=1, address="x@y.example", orcpt="utf-8;j\u00fcrgen+2Bx@\u4f8b.example")
    about = b"Original-Recipient: utf-8;j\\x{FC}rgen+x@\\x{4F8B}.example\r\n"
    assert about in made(FAILED[:1], recipients=(recipient,)).mail


def test_envelope() -> None:
    """The report goes out from the null sender, asks for no report itself, and is sized and hashed as it is."""
    report = made()
    assert report.envelope.sender == ""
    assert report.envelope.recipients[0].notify == "NEVER"
    assert (report.envelope.size, report.envelope.sha256) == (len(report.mail), sha256(report.mail).hexdigest())
    message = email.message_from_bytes(report.mail)
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["References"] == "<m1@d.example>"
    assert message["From"].endswith("<MAILER-DAEMON@d.example>")


def test_same_attempt_same_queue_id() -> None:
    """The report on an attempt always has the same queue ID, a valid one, and each attempt its own."""
    first = dsn.queue_id_of(ENVELOPE.queue_id, 1)
    assert parse_queue_id(first) == first
    assert first == made().envelope.queue_id
    assert first != dsn.queue_id_of(ENVELOPE.queue_id, 2)
    assert first != ENVELOPE.queue_id
    assert len({dsn.queue_id_of(ENVELOPE.queue_id, 1, what) for what in ("failed", "expired", "relayed")}) == 3


def test_target() -> None:
    """Reports go to a confirmed reply-to or to a sender in the own domain, never about a null sender."""
    unconfirmed = msgspec.structs.replace(CONFIGURATION, reply_to="ops@customer.example")
    own = msgspec.structs.replace(CONFIGURATION, reply_to="ops@d.example")
    reply = msgspec.structs.replace(unconfirmed, reply_to_confirmed_at=NOW)
    foreign = msgspec.structs.replace(ENVELOPE, sender="x@other.example")
    null = msgspec.structs.replace(ENVELOPE, sender="")
    assert dsn.target(ENVELOPE, CONFIGURATION) == "app@d.example"
    assert dsn.target(ENVELOPE, reply) == "ops@customer.example"
    assert dsn.target(ENVELOPE, unconfirmed) == "app@d.example"
    assert dsn.target(foreign, unconfirmed) == ""
    assert dsn.target(ENVELOPE, own) == "ops@d.example"
    assert dsn.target(foreign, CONFIGURATION) == ""
    assert dsn.target(foreign, reply) == "ops@customer.example"
    assert dsn.target(null, reply) == ""
    assert dsn.target(ENVELOPE, None) == ""


@pytest.mark.parametrize(
    ("notify", "words"),
    [
        ("", {"FAILURE", "DELAY"}),
        ("NEVER", set()),
        ("SUCCESS", {"SUCCESS"}),
        ("delay,failure", {"DELAY", "FAILURE"}),
        ("FAILURE", {"FAILURE"}),
    ],
)
def test_notify(notify: str, words: set[str]) -> None:
    """NOTIFY decides what is reported; without it failures and delays are, successes are not."""
    recipient = Recipient(number=1, address="a@b.example", notify=notify)
    assert {word for word in ("FAILURE", "DELAY", "SUCCESS") if reporting.wanted(recipient, word)} == words


def test_delay_and_relay() -> None:
    """A delay says until when; both return the header only, even where RET=FULL was asked for."""
    waiting = msgspec.structs.replace(FAILED[1], status="deferred")
    passed_on = RecipientState(
        number=1, address="x@y.example", status="delivered", at=NOW,
        last=Diagnosis(code=250, enhanced="2.1.5", text="ok", host="mx.y.example", phase="final"),
    )  # fmt: skip
    for action, state, lines in (
        ("delayed", waiting, ["Action: delayed", "Status: 4.4.1", "Will-Retry-Until: Mon, 23 Nov 2026 12:00:00 +0000"]),
        ("relayed", passed_on, ["Action: relayed", "Status: 2.1.5"]),
    ):
        envelope = msgspec.structs.replace(ENVELOPE, ret="FULL")
        report = dsn.report(
            envelope, (state,), attempt=1, to="app@d.example", original=ORIGINAL, reporting_mta="relay.example",
            now=NOW, action=action, until=NOW, full_bytes=1 << 20,  # type: ignore[arg-type]
        )  # fmt: skip
        for line in lines:
            assert line.encode() in report.mail
        assert b"secret body" not in report.mail
        assert report.envelope.queue_id != made().envelope.queue_id


def test_the_whole_mail_is_returned_on_request() -> None:
    """RET=FULL returns it octet for octet, unless it is too large; RET=HDRS and nothing return the header."""
    envelope = msgspec.structs.replace(ENVELOPE, ret="FULL")
    for ret, limit, whole in (("FULL", 1000, True), ("FULL", 10, False), ("HDRS", 1000, False), ("", 1000, False)):
        envelope = msgspec.structs.replace(ENVELOPE, ret=ret)
        report = dsn.report(
            envelope, FAILED, attempt=1, to="app@d.example", original=ORIGINAL, reporting_mta="relay.example", now=NOW,
            full_bytes=limit,
        )  # fmt: skip
        kind = parts(report)[2].get_content_type()
        assert kind == ("message/rfc822" if whole else "text/rfc822-headers")
        assert (ORIGINAL in report.mail) is whole


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain", "plain"),
        ("a+2Bb+3Dc", "a+b=c"),
        ("a+20b", "a b"),
        ("+0D+0AStatus:+202.0.0", "??Status: 2.0.0"),
        ("+00+7F+FF", "???"),
        ("2+2", "2+2"),
        ("+", "+"),
    ],
)
def test_what_the_client_wrote_in_xtext(written: str, meant: str) -> None:
    """ENVID and ORCPT come back as they were meant (RFC 3461 §6.3), and nothing in them ends a line."""
    recipient = Recipient(number=1, address="x@y.example", orcpt=f"rfc822;{written}")
    _, status, _ = parts(made(FAILED[:1], envid=written, recipients=(recipient,)))
    message, first = (part for part in status.get_payload() if isinstance(part, Message))
    assert message["Original-Envelope-Id"] == meant.strip()
    assert first["Original-Recipient"] == f"rfc822;{meant}"
    assert first.keys().count("Status") == 1


@pytest.mark.parametrize(
    ("subject", "readable"),
    [
        ("hi", "hi"),
        ("gr\u00fc\u00dfe = 1", "gr\u00fc\u00dfe = 1"),
        ("=?utf-8?q?gr=C3=BC=C3=9Fe?= and =?iso-8859-1?b?5A==?=", "gr\u00fc\u00dfe and \u00e4"),
        ("=?no-charset?q?a?=", "=?no-charset?q?a?="),
        ("=?utf-8?b?x?=", "=?utf-8?b?x?="),
        ("=?utf-7?q?+2AA-?=", "=?utf-7?q?+2AA-?="),
        ("=?unicode_escape?q?=5Cud800?=", "=?unicode_escape?q?=5Cud800?="),
        ("=?utf-8?q?=0D=0A--x?=", "--x"),
    ],
)
def test_the_words_are_readable_and_fit_for_every_server(subject: str, readable: str) -> None:
    """The subject is decoded; nothing of ours needs 8BITMIME, so that a report is not lost for want of it."""
    report = made(subject=subject)
    message = email.message_from_bytes(report.mail)
    words = parts(report)[0].get_payload(decode=True)
    assert isinstance(words, bytes)
    assert f"  Subject:  {readable}\r\n" in words.decode()
    assert message["Content-Transfer-Encoding"] == "7bit"
    assert report.mail.isascii()
    assert not report.envelope.eight_bit


@pytest.mark.parametrize(
    ("ret", "utf8", "kind"),
    [
        ("", True, "message/global-headers"), ("FULL", True, "message/global"),
        ("", False, "text/rfc822-headers"), ("FULL", False, "message/rfc822"),
    ],
)  # fmt: skip
def test_eight_bit_originals_are_declared(ret: str, utf8: bool, kind: str) -> None:
    """The report and each part say whether octets above 127 follow (RFC 2045 §6.4), and the envelope says the same."""
    original = "From: a@d.example\r\nSubject: gr\u00fc\u00dfe\r\n\r\nx\r\n".encode()
    report = dsn.report(
        msgspec.structs.replace(ENVELOPE, ret=ret, smtputf8=utf8), FAILED, attempt=1, to="app@d.example",
        original=original, reporting_mta="relay.example", now=NOW, full_bytes=1000,
    )  # fmt: skip
    message, returned = email.message_from_bytes(report.mail), parts(report)[2]
    assert message["Content-Transfer-Encoding"] == returned["Content-Transfer-Encoding"] == "8bit"
    assert report.envelope.eight_bit
    assert returned.get_content_type() == kind


@given(
    text=st.text(max_size=300), address=st.text(min_size=1, max_size=60), subject=st.text(max_size=300),
    message_id=st.text(max_size=80),
)  # fmt: skip
def test_nothing_breaks_out(text: str, address: str, subject: str, message_id: str) -> None:
    """No text of a remote server, address or subject can add a line, a part or a header field."""
    state = RecipientState(
        number=1, address=address, status="bounced", at=NOW,
        last=Diagnosis(code=550, enhanced="5.0.0", text=text, host="mx", phase="rcpt"),
    )  # fmt: skip
    report = made((state,), subject=subject, message_id=message_id)
    assert len(parts(report)) == 3
    assert report.mail.count(b"\n") == report.mail.count(b"\r\n") == report.mail.count(b"\r")
    assert max(map(len, report.mail.split(b"\r\n"))) <= 998
    head = email.message_from_bytes(report.mail)
    assert set(head.keys()) <= {
        "From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted", "MIME-Version",
        "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
