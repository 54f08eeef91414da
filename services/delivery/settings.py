"""The settings of delivery: `POSTLANE_DELIVERY_…`."""

import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from services.delivery.core import reach
from services.delivery.core.egress import Egress, egress
from services.delivery.core.retry import Schedule
from shared.mail.address import Address, parse_address
from shared.runtime.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_RESOLVER = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+)(?::(\d{1,5}))?")


class DeliverySettings(Settings, frozen=True, kw_only=True):
    """What an operator can set of delivery."""

    master_key_file: Annotated[Path, Meta(description="file with the master key that seals DKIM keys, base64")]
    ehlo_name: Annotated[str, Meta(description="name given in EHLO and in reports; resolves to the egress address")] = (
        "localhost.localdomain"
    )
    resolvers: Annotated[
        tuple[str, ...], Meta(description="name servers as host:port, asked in turn; empty: those of the system")
    ] = ()
    dns_timeout_seconds: Annotated[float, Meta(description="time for one look-up, all tries included", gt=0)] = 10.0
    dns_cache_entries: Annotated[int, Meta(description="look-ups kept for their TTL", ge=1)] = 20_000
    mx_port: Annotated[int, Meta(description="TCP port of mail exchangers; anything but 25 is for tests", ge=1)] = 25
    allowed_networks: Annotated[
        tuple[str, ...], Meta(description="networks delivery may reach although they are not public")
    ] = ()
    refused_networks: Annotated[
        tuple[str, ...], Meta(description="networks delivery must never connect to, such as our own addresses")
    ] = ()
    egress_addresses: Annotated[
        tuple[str, ...], Meta(description="addresses to send from, one chosen per configuration; empty: the system's")
    ] = ()
    egress_pools: Annotated[
        tuple[str, ...],
        Meta(description="pools of those addresses for configurations, as pool=address, once per address"),
    ] = ()
    ehlo_names: Annotated[
        tuple[str, ...], Meta(description="names given in EHLO from single addresses, as address=name")
    ] = ()
    prefer_ipv6: Annotated[bool, Meta(description="try an exchanger's IPv6 addresses first")] = True
    connect_timeout_seconds: Annotated[float, Meta(description="time for a TCP connection", gt=0)] = 30.0
    command_timeout_seconds: Annotated[
        float, Meta(description="time for the greeting and for the reply to a command", gt=0)
    ] = 300.0  # RFC 5321 §4.5.3.2
    data_write_timeout_seconds: Annotated[
        float, Meta(description="time without progress while the message is being sent", gt=0)
    ] = 180.0  # RFC 5321 §4.5.3.2.5
    final_reply_timeout_seconds: Annotated[
        float, Meta(description="time for the reply to the final dot; less makes duplicates", gt=0)
    ] = 600.0  # RFC 5321 §4.5.3.2.6
    connection_idle_seconds: Annotated[
        float, Meta(description="how long a connection is kept for the next message; 0: not at all", ge=0)
    ] = 10.0
    connection_messages: Annotated[int, Meta(description="messages sent over one connection at most", ge=1)] = 100
    connections_kept: Annotated[int, Meta(description="idle connections kept in all", ge=0)] = 500
    attempt_timeout_seconds: Annotated[
        float, Meta(description="time for all connections of one attempt to one destination, up to the dot", gt=0)
    ] = 900.0
    retry_waits_seconds: Annotated[
        tuple[float, ...], Meta(description="waits after the first attempt, the second and so on; the last repeats")
    ] = (300, 600, 1200, 2400, 4800, 9600, 14400)
    retry_jitter: Annotated[float, Meta(description="part of a wait that chance adds or takes", ge=0, le=1)] = 0.2
    lifetime_seconds: Annotated[
        float, Meta(description="how long delivery is tried if the configuration does not say", gt=0)
    ] = 5 * 86400.0
    release_spread_seconds: Annotated[
        float, Meta(description="time over which the held messages of a configuration are released", ge=0)
    ] = 30.0
    reconcile_seconds: Annotated[float, Meta(description="interval at which held messages are reviewed", gt=0)] = 30.0
    sweep_seconds: Annotated[
        float, Meta(description="interval of the search for overdue schedules and leftovers", gt=0)
    ] = 60.0
    sweep_messages: Annotated[int, Meta(description="deferred messages looked at in one sweep of a shard", ge=1)] = 5000
    overdue_seconds: Annotated[float, Meta(description="how late a schedule may fire before it is repeated", gt=0)] = (
        60.0
    )
    concurrency: Annotated[int, Meta(description="messages in delivery at the same time", ge=1)] = 400
    tenant_concurrency: Annotated[
        int, Meta(description="messages of one configuration in delivery at the same time", ge=1)
    ] = 100
    park_after_seconds: Annotated[
        float, Meta(description="how long a queue may be blocked by busy tenants before their mail is put aside", gt=0)
    ] = 2.0
    park_messages_per_second: Annotated[
        float, Meta(description="messages put aside per second at most, by one worker", gt=0)
    ] = 50.0
    domain_concurrency: Annotated[
        int, Meta(description="transactions with one destination at a time, of all workers together", ge=1)
    ] = 20
    domain_messages_per_second: Annotated[
        float, Meta(description="messages begun per second at one destination, by all workers together; 0: any", ge=0)
    ] = 0.0
    breaker_failures: Annotated[
        int, Meta(description="attempts in a row a destination must leave unanswered to be paused", ge=1)
    ] = 10
    breaker_pause_seconds: Annotated[float, Meta(description="first pause of such a destination; it doubles", gt=0)] = (
        30.0
    )
    breaker_longest_pause_seconds: Annotated[float, Meta(description="longest pause of a destination", gt=0)] = 600.0
    message_groups: Annotated[int, Meta(description="destinations of one message served at a time", ge=1)] = 8
    buffer_bytes: Annotated[int, Meta(description="octets of messages pulled and not yet finished", ge=1)] = 256 << 20
    pull_batch: Annotated[int, Meta(description="messages pulled at once from one consumer", ge=1)] = 20
    pull_bytes: Annotated[int, Meta(description="octets pulled at once from one consumer", ge=1)] = 4 << 20
    hold_seconds: Annotated[
        float,
        Meta(
            description="how old the last extension of our hold may be at the final dot; the ack wait is 30",
            gt=0,
            lt=30,
        ),
    ] = 22.0
    drain_seconds: Annotated[float, Meta(description="time for transactions to end when told to stop", ge=0)] = 25.0
    mta_sts: Annotated[bool, Meta(description="obey the MTA-STS policies of recipient domains (RFC 8461)")] = True
    mta_sts_port: Annotated[int, Meta(description="TCP port of policy hosts; others than 443 are for tests", ge=1)] = (
        443
    )
    mta_sts_fetch_seconds: Annotated[float, Meta(description="time to fetch a policy", gt=0)] = 60.0
    mta_sts_retry_seconds: Annotated[
        float, Meta(description="how long a policy that could not be fetched is not asked for again", ge=0)
    ] = 300.0
    mta_sts_refresh_seconds: Annotated[
        float, Meta(description="age at which a kept policy is fetched again although its record did not change", gt=0)
    ] = 86400.0
    delay_report_seconds: Annotated[
        float, Meta(description="age at which a waiting message is reported to its sender, once; 0: never", ge=0)
    ] = 4 * 3600.0
    report_full_bytes: Annotated[
        int, Meta(description="largest mail that a report returns whole, if its sender asked for that", ge=0)
    ] = 1 << 20
    notice_sender: Annotated[
        str,
        Meta(description="sender of notices to tenants' contacts, in a domain that is set up here; empty: none"),
    ] = ""
    suppress_bounces: Annotated[bool, Meta(description="suppress recipients whose mailbox is gone")] = True

    def __post_init__(self) -> None:
        """Check what types alone cannot. Errors: `ValueError` says which and how to correct it."""
        if not _NAME.fullmatch(self.ehlo_name):
            raise ValueError("ehlo_name must be a host name, such as mail.example.net")
        if not self.retry_waits_seconds or min(self.retry_waits_seconds) <= 0:
            raise ValueError("retry_waits_seconds must hold at least one number, all above 0")
        for name in ("allowed_networks", "refused_networks"):
            try:
                reach.networks(getattr(self, name))
            except ValueError as fault:
                raise ValueError(f"{name}: {fault}") from None
        if self.notice_sender and not isinstance(parse_address(self.notice_sender), Address):
            raise ValueError("notice_sender must be an address, such as postlane@example.net")
        try:
            names = self.egress.names.values()
        except ValueError as fault:
            raise ValueError(f"egress_addresses, egress_pools, ehlo_names: {fault}") from None
        if not all(map(_NAME.fullmatch, names)):
            raise ValueError("ehlo_names must hold addresses and host names, such as 192.0.2.1=out1.example.net")
        for resolver in self.resolvers:
            if not _RESOLVER.fullmatch(resolver):
                raise ValueError(f"resolvers: {resolver!r} must be an address and a port, such as 127.0.0.1:53")

    @property
    def egress(self) -> Egress:
        """The outgoing addresses. Errors: `ValueError` says what does not fit."""
        return egress(self.egress_addresses, self.egress_pools, self.ehlo_names)

    @property
    def schedule(self) -> Schedule:
        """The spacing of attempts."""
        return Schedule(waits_seconds=self.retry_waits_seconds, jitter=self.retry_jitter)
