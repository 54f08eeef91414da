"""Notices as mails."""

import email
from datetime import UTC, datetime
from email.policy import default

from services.delivery.core import notice
from shared.contract.events import NoticeRequested
from shared.contract.records import Configuration

NOW = datetime(2026, 11, 2, 8, 30, tzinfo=UTC)
OPERATOR = Configuration(
    id="op", instance="inst", name="main", domain="op.example", selector="s", dkim_value="", spf_value="",
    created_at=NOW, updated_at=NOW,
)  # fmt: skip


def request(**more: object) -> NoticeRequested:
    """Return a request for a notice."""
    values = {
        "id": "e1", "at": NOW, "instance": "i", "configuration": "c", "recipients": ("a@x.example", "b@x.example"),
        "subject": "Sending stopped", "text": "Dear customer,\n\nthe record is gone.\n",
    }  # fmt: skip
    return NoticeRequested(**(values | more))  # type: ignore[arg-type]


def test_a_notice_is_a_proper_mail() -> None:
    """Judged by Python's parser: all a mail needs, marked as automatic, to every contact."""
    made = notice.written(request(), OPERATOR, "postlane@op.example", NOW)
    assert made is not None
    parsed = email.message_from_bytes(made.mail, policy=default)
    assert parsed.defects == []
    assert parsed["From"].addresses[0].addr_spec == "postlane@op.example"
    assert [a.addr_spec for a in parsed["To"].addresses] == ["a@x.example", "b@x.example"]
    assert parsed["Subject"] == "Sending stopped"
    assert parsed["Date"].datetime == NOW
    assert parsed["Message-ID"] == made.envelope.message_id
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed.get_content_type() == "text/plain"
    assert "the record is gone." in parsed.get_content()
    assert made.mail.count(b"\n") == made.mail.count(b"\r\n")
    assert [r.notify for r in made.envelope.recipients] == ["NEVER", "NEVER"]
    assert (made.envelope.instance, made.envelope.configuration) == ("inst", "op")


def test_one_identity_per_request() -> None:
    """A repeat has the same queue ID on the same day, and one that can be told on the next; another has another."""
    first = notice.queue_id_of(request())
    assert notice.queue_id_of(request(at=NOW.replace(hour=23))) == first
    assert notice.queue_id_of(request(at=NOW.replace(day=3)), days_earlier=1) == first
    assert first != notice.queue_id_of(request(id="e2"))


def test_hostile_words() -> None:
    """Line ends in a subject, long lines and foreign letters neither break the mail nor add a field."""
    text = "grüße " * 400
    made = notice.written(
        request(subject="hi\r\nBcc: evil@x.example ü", text=text, recipients=("a@x.example", "nonsense")),
        OPERATOR,
        "p@op.example",
        NOW,
    )
    assert made is not None
    parsed = email.message_from_bytes(made.mail, policy=default)
    assert parsed["Bcc"] is None
    assert parsed["Subject"] == "hi Bcc: evil@x.example ü"
    assert parsed.get_content().strip() == text.strip()
    assert made.mail.isascii()
    assert max(map(len, made.mail.split(b"\r\n"))) <= 998
    assert [r.address for r in made.envelope.recipients] == ["a@x.example"]


def test_addresses_beyond_ascii_and_nobody() -> None:
    """A local part beyond ASCII asks for SMTPUTF8; without any address there is no mail."""
    made = notice.written(request(recipients=("grüße@x.example",)), OPERATOR, "p@op.example", NOW)
    assert made is not None
    assert made.envelope.smtputf8
    assert "grüße@x.example".encode() in made.mail
    quoted = notice.written(request(recipients=('"a b"@x.example',)), OPERATOR, "p@op.example", NOW)
    assert quoted is not None
    assert b'"a b"@x.example' in quoted.mail
    assert notice.written(request(recipients=("nonsense",)), OPERATOR, "p@op.example", NOW) is None
