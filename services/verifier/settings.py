"""The verifier's settings: `POSTLANE_VERIFIER_…` or `[verifier]` in the file."""

import ipaddress
from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from services.verifier.core.notice import Occasions
from services.verifier.core.recheck import Intervals
from services.verifier.core.standing import Policy
from services.verifier.resolver import QueryLimits, split_server
from shared.runtime.settings import Settings

Seconds = Annotated[float, Meta(gt=0)]


class VerifierSettings(Settings, frozen=True, kw_only=True):
    """What is checked against which servers, how often, and what a failure leads to."""

    resolvers: Annotated[
        tuple[str, ...],
        Meta(description="DNS servers, host:port; two or more, so that failures are confirmed. Empty: the system's"),
    ] = ()
    egress_addresses: Annotated[
        tuple[str, ...],
        Meta(description="every address delivery sends from; SPF must authorise each. Empty: SPF stays unknown"),
    ] = ()
    ehlo_name: Annotated[str, Meta(description="name delivery gives in EHLO, for SPF macros")] = "localhost.localdomain"
    replica: Annotated[str, Meta(description="name of this replica; empty: made at start")] = ""

    pending_seconds: Annotated[float, Meta(description="first interval of checks of a new domain", gt=0)] = 60
    pending_at_most_seconds: Annotated[
        float, Meta(description="longest interval while pending; the wait grows with the time pending", gt=0)
    ] = 3600
    verified_seconds: Annotated[float, Meta(description="interval of checks of a verified domain", gt=0)] = 21_600
    degraded_seconds: Annotated[
        float, Meta(description="interval of checks while degraded or suspended, or when DNS did not answer", gt=0)
    ] = 300
    first_check_spread_seconds: Annotated[
        float, Meta(description="domains that appear together are first checked spread over this time", ge=0)
    ] = 2

    domain_must_exist: Annotated[
        bool, Meta(description="a new domain is verified only if it has an A, AAAA or MX record")
    ] = True
    grace_seconds: Annotated[
        float, Meta(description="least time from the first definitive failure to a suspension", ge=0)
    ] = 3600
    failures_to_suspend: Annotated[
        int, Meta(description="consecutive definitive failures that suspend, the first included", ge=2)
    ] = 3
    stale_seconds: Annotated[
        float, Meta(description="a run of failures whose last check is longer ago starts again", gt=0)
    ] = 1800
    unknown_alarm_seconds: Annotated[
        float, Meta(description="alarm when DNS could not say for so long; nothing else happens", gt=0)
    ] = 21_600

    notice_pause_seconds: Annotated[
        float, Meta(description="contacts are told at most this often that records fail while mail still flows", ge=0)
    ] = 3600
    waiting_notice_seconds: Annotated[
        float, Meta(description="contacts are told when records have not appeared for so long", gt=0)
    ] = 72 * 3600

    dns_timeout_seconds: Annotated[float, Meta(description="wait for one DNS reply", gt=0)] = 2
    dns_tries: Annotated[int, Meta(description="rounds over all resolvers", ge=1, le=5)] = 2
    dns_queries_per_second: Annotated[float, Meta(description="most DNS questions per second, on average", gt=0)] = 100
    dns_in_flight: Annotated[int, Meta(description="most DNS questions at the same time", ge=1)] = 200
    dns_cache_seconds: Annotated[float, Meta(description="no answer is kept longer, whatever its TTL", ge=0)] = 300
    dns_trust_bare: Annotated[
        bool,
        Meta(description="believe empty answers without SOA; only for forwarders that strip it"),
    ] = False
    authority_port: Annotated[
        int, Meta(description="port of the zones' own name servers, when they are asked for evidence", ge=1, le=65535)
    ] = 53
    authority_private_networks: Annotated[
        tuple[str, ...],
        Meta(description="networks where zones' own name servers may be asked although not public, for tests"),
    ] = ()
    questions_per_check: Annotated[
        int, Meta(description="most DNS questions to evaluate one SPF record; beyond it nothing is decided", ge=20)
    ] = 60

    checks_at_once: Annotated[
        int, Meta(description="most checks at the same time in this replica; a quarter more of silent domains", ge=1)
    ] = 100
    check_timeout_seconds: Annotated[float, Meta(description="longest time one check may take", gt=0)] = 10
    lease_seconds: Annotated[
        float, Meta(description="how long a replica holds a check; when it dies another takes over then", gt=0)
    ] = 60
    observations_kept: Annotated[int, Meta(description="changes of what was seen that are kept per domain", ge=1)] = 20

    def __post_init__(self) -> None:
        """Check what concerns several fields, or the form of one.

        Errors: `ValueError`.
        """
        for server in self.resolvers:
            split_server(server)
        for address in self.egress_addresses:
            ipaddress.ip_address(address)
        for network in self.authority_private_networks:
            ipaddress.ip_network(network)
        if self.lease_seconds < 2 * self.check_timeout_seconds:
            raise ValueError("lease_seconds must be at least twice check_timeout_seconds, or a check is done twice")
        if self.stale_seconds < 3 * self.degraded_seconds:
            raise ValueError(
                "stale_seconds must be at least three times degraded_seconds, or nothing is ever suspended"
            )

    @property
    def policy(self) -> Policy:
        """When failures suspend."""
        return Policy(
            grace=timedelta(seconds=self.grace_seconds),
            failures_to_suspend=self.failures_to_suspend,
            stale_after=timedelta(seconds=self.stale_seconds),
            domain_must_exist=self.domain_must_exist,
        )

    @property
    def occasions(self) -> Occasions:
        """When contacts are told."""
        return Occasions(
            pause=timedelta(seconds=self.notice_pause_seconds), waiting=timedelta(seconds=self.waiting_notice_seconds)
        )

    @property
    def intervals(self) -> Intervals:
        """How often each state is checked."""
        return Intervals(
            pending=timedelta(seconds=self.pending_seconds),
            pending_at_most=timedelta(seconds=self.pending_at_most_seconds),
            verified=timedelta(seconds=self.verified_seconds),
            degraded=timedelta(seconds=self.degraded_seconds),
        )

    @property
    def longest_wait(self) -> timedelta:
        """The longest a check can lie ahead, by any of the intervals and their jitter."""
        seconds = max(self.pending_at_most_seconds, self.verified_seconds, self.degraded_seconds, self.lease_seconds)
        return timedelta(seconds=2 * seconds + self.first_check_spread_seconds)

    @property
    def query_limits(self) -> QueryLimits:
        """How hard resolvers are asked."""
        return QueryLimits(
            timeout_seconds=self.dns_timeout_seconds,
            tries=self.dns_tries,
            per_second=self.dns_queries_per_second,
            in_flight=self.dns_in_flight,
            cache_seconds=self.dns_cache_seconds,
            trust_bare=self.dns_trust_bare,
        )
