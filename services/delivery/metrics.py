"""What delivery counts. Labels are words of ours only, so their number is bounded."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contract.envelope import FINAL, RecipientState
from shared.contract.events import MessageAttempted


class Metrics:
    """The room's collectors, registered once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.recipients = Counter(
            "postlane_delivery_recipients", "Recipients by what became of them", ["status"], registry=registry
        )
        self.attempts = Counter("postlane_delivery_attempts", "Committed attempts", ["lane"], registry=registry)
        self.connections = Counter(
            "postlane_delivery_connections", "Connections by last phase and TLS", ["phase", "tls"], registry=registry
        )
        self.seconds = Histogram(
            "postlane_delivery_attempt_seconds",
            "Time of an attempt, from its first look-up to its commit",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 900),
            registry=registry,
        )
        self.in_flight = Gauge("postlane_delivery_in_flight", "Messages in delivery now", registry=registry)
        self.buffered = Gauge("postlane_delivery_buffered", "Messages pulled and waiting", registry=registry)
        self.buffered_bytes = Gauge("postlane_delivery_buffered_bytes", "Octets in hand", registry=registry)
        self.moves = Counter("postlane_delivery_moves", "Moves of messages", ["move"], registry=registry)
        self.alarms = Counter("postlane_delivery_alarms", "What must never happen and did", ["kind"], registry=registry)
        self.notices = Counter(
            "postlane_delivery_notices", "Notices by what became of them", ["end"], registry=registry
        )

    def attempted(self, lane: str, before: tuple[RecipientState, ...], event: MessageAttempted, seconds: float) -> None:
        """Count a committed attempt at a message whose recipients were as in `before`."""
        self.attempts.labels(lane).inc()
        self.seconds.observe(seconds)
        self._counted(before, event, event.recipients)

    def attempted_in_part(self, before: tuple[RecipientState, ...], event: MessageAttempted) -> None:
        """Count what is decided before the end of an attempt; the end counts the rest, and the attempt itself."""
        self._counted(before, event, tuple(r for r in event.recipients if r.status in FINAL))

    def _counted(
        self, before: tuple[RecipientState, ...], event: MessageAttempted, recipients: tuple[RecipientState, ...]
    ) -> None:
        was = {r.number: r.status for r in before}
        for recipient in recipients:
            if was.get(recipient.number) not in FINAL:
                self.recipients.labels(recipient.status).inc()
        for tried in event.exchangers:
            tls = "verified" if tried.tls_verified else "unverified" if tried.tls else "none"
            self.connections.labels(tried.phase, tls).inc()
