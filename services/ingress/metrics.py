"""Figures of ingress for Prometheus; labels take only words of ours."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.contract.records import LANES


class Metrics:
    """Counters and histograms of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with the room's registry."""
        self.sessions = Gauge("postlane_ingress_sessions", "Open connections", registry=registry)
        self.accepted = Counter("postlane_ingress_accepted_total", "Messages answered 250", ["lane"], registry=registry)
        self.accepted_in = {lane: self.accepted.labels(lane) for lane in LANES}
        self.accepted_bytes = Counter("postlane_ingress_accepted_bytes_total", "Octets of them", registry=registry)
        self.refused = Counter(
            "postlane_ingress_refused_total", "Replies of class 4 and 5", ["phase", "code"], registry=registry
        )
        self.logins = Counter("postlane_ingress_logins_total", "Logins by outcome", ["outcome"], registry=registry)
        self.repeated = Counter(
            "postlane_ingress_repeated_total",
            "Submissions answered with an earlier queue ID",
            registry=registry,
        )
        self.reported = Counter(
            "postlane_ingress_reported_total", "Logins a rule in report mode would have refused", registry=registry
        )
        self.store_seconds = Histogram(
            "postlane_ingress_store_seconds",
            "Time from the whole message to the PubAck",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30),
            registry=registry,
        )
        self.in_flight = Gauge("postlane_ingress_in_flight_bytes", "Octets of messages in hand", registry=registry)
        self.certificate_expires = Gauge(
            "postlane_ingress_certificate_expires_seconds", "End of the TLS certificate, Unix time", registry=registry
        )
