"""An acceptance made again from the envelope tells what the envelope tells."""

from datetime import UTC, datetime

from services.tracker.core import reconstruction
from services.tracker.core.fact import read
from shared.contract.envelope import Envelope, Recipient, Staging
from shared.contract.events import acceptance

ENVELOPE = Envelope(
    queue_id="Q1",
    instance="i",
    configuration="c",
    domain="a.example",
    lane="marketing",
    sender="a@a.example",
    recipients=(Recipient(number=1, address="b@b.example"), Recipient(number=2, address="C@b.example")),
    received_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
    expires_at=datetime(2026, 3, 2, 12, tzinfo=UTC),
    size=5,
    sha256="00",
    user="u",
    staging=Staging(mode="capture"),
)


def test_a_reconstructed_acceptance_is_the_published_one_without_the_client() -> None:
    event = read(reconstruction.fact(ENVELOPE))
    assert event == acceptance(ENVELOPE)
    assert event.recipients == ("b@b.example", "C@b.example")
    assert event.staging == "capture"
    assert event != acceptance(ENVELOPE, client_address="192.0.2.7")
