"""The verifier's metrics. No label holds what a tenant can choose."""

from collections import Counter as Count
from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.verifier.resolver import Counters
from shared.contract.standing import Standing, StandingState


class Measures:
    """Counters and gauges of one replica, in a room's registry."""

    def __init__(self, registry: CollectorRegistry, dns: Counters) -> None:
        self.checks = Counter("postlane_verifier_checks", "checks done, by verdict", ["verdict"], registry=registry)
        self.moves = Counter(
            "postlane_verifier_moves", "changes of standing, by new state", ["state"], registry=registry
        )
        self.unknown_alarms = Counter(
            "postlane_verifier_unknown_alarms", "checks of domains DNS cannot speak for since long", registry=registry
        )
        self.overdue_seconds = Gauge(
            "postlane_verifier_overdue_seconds", "how late the longest due check is", registry=registry
        )
        self.standings = Gauge(
            "postlane_verifier_standings", "configurations by standing", ["state"], registry=registry
        )
        registry.register(_DnsCounters(dns))

    def count(self, standings: Iterable[Standing]) -> None:
        """Set the number of configurations by state."""
        found = Count(standing.state for standing in standings)
        for state in get_args(StandingState):
            self.standings.labels(state).set(found[state])


class _DnsCounters(Collector):
    """Reads the resolver's counters when asked."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("postlane_verifier_dns_questions", "DNS questions sent", labels=["outcome"])
        sent.add_metric(["answered"], self._counters.sent - self._counters.unanswered)
        sent.add_metric(["unanswered"], self._counters.unanswered)
        sent.add_metric(["cached"], self._counters.cached)
        yield sent
