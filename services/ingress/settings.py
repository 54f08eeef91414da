"""Settings of ingress. Names: `POSTLANE_INGRESS_…`."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from shared.runtime.settings import Settings


class IngressSettings(Settings, frozen=True, kw_only=True):
    """Where ingress listens, what it proves before it is ready, and every limit it holds clients to."""

    host_name: Annotated[str, Meta(description="name in the greeting, in EHLO and in Received")] = "localhost"
    public_listen: Annotated[tuple[str, ...], Meta(description="host:port list, public endpoint, STARTTLS")] = (
        "127.0.0.1:2587",
    )
    public_tls_listen: Annotated[tuple[str, ...], Meta(description="host:port list, public endpoint, implicit TLS")] = (
        "127.0.0.1:2465",
    )
    private_listen: Annotated[tuple[str, ...], Meta(description="host:port list, private endpoint, STARTTLS")] = ()
    private_tls_listen: Annotated[tuple[str, ...], Meta(description="host:port list, private, implicit TLS")] = ()
    processes: Annotated[
        int,
        Meta(
            description="worker processes on the same ports; limits of connections and octets hold for each",
            ge=1,
            le=64,
        ),
    ] = 1
    share_port: Annotated[bool, Meta(description="let several ingress processes of a host listen on one port")] = False
    proxy_networks: Annotated[
        tuple[str, ...], Meta(description="networks of balancers; they must send a PROXY header, nobody else may")
    ] = ()
    tls_certificate_file: Annotated[Path, Meta(description="PEM file of the certificate and its chain")]
    tls_key_file: Annotated[Path, Meta(description="PEM file of the private key")]
    tls_reload_seconds: Annotated[float, Meta(description="interval of looking for a new certificate", gt=0)] = 30

    relaxed_durability: Annotated[
        bool, Meta(description="accept mail although the bus does not sync each message to disk; loses mail on a crash")
    ] = False
    repeat_hours: Annotated[
        float, Meta(description="how long a repeated submission gets the first one's queue ID, up to 24", gt=0, le=24)
    ] = 24
    proof_seconds: Annotated[float, Meta(description="interval of proving that the bus syncs each message", gt=0)] = 60
    store_seconds: Annotated[float, Meta(description="longest time a client waits for the bus; then 451", gt=0)] = 25
    store_attempt_seconds: Annotated[float, Meta(description="longest wait for one PubAck before repeating", gt=0)] = 5
    storage_check_seconds: Annotated[float, Meta(description="interval of looking at the fill of the store", gt=0)] = 5
    storage_percent: Annotated[
        int, Meta(description="fill of a mail stream or of the whole store from which on mail waits, 452", le=100)
    ] = 80
    drain_seconds: Annotated[float, Meta(description="time for transactions to finish when told to stop", ge=0)] = 20

    message_bytes: Annotated[int, Meta(description="largest message, in octets", ge=1024)] = 31_457_280
    in_flight_bytes: Annotated[int, Meta(description="octets of messages received at once; then 452")] = 134_217_728
    in_flight_bytes_per_user: Annotated[int, Meta(description="the same, of one user")] = 67_108_864
    recipients: Annotated[int, Meta(description="recipients per message", ge=1)] = 100
    header_bytes: Annotated[int, Meta(description="octets of a message's header", ge=1024)] = 262_144
    header_lines: Annotated[int, Meta(description="lines of a message's header", ge=10)] = 5_000
    hops: Annotated[int, Meta(description="Received fields a message may arrive with", ge=1)] = 50
    own_hops: Annotated[int, Meta(description="times a message may come through this relay before it is a loop")] = 2
    mime_depth: Annotated[int, Meta(description="nesting of MIME parts", ge=1)] = 10
    mime_parts: Annotated[int, Meta(description="number of MIME parts", ge=1)] = 100

    html_characters: Annotated[
        int, Meta(description="characters of HTML in a message that content policies examine", ge=1024, le=10_485_760)
    ] = 262_144
    unsubscribe_words: Annotated[
        tuple[str, ...], Meta(description="words by which a link to unsubscribe is known, in its text or its URL")
    ] = (
        "unsubscribe", "opt-out", "opt out", "optout", "abmelden", "abbestellen", "austragen", "désabonner",
        "désinscri", "darse de baja", "cancelar suscripción", "cancelar a inscrição", "disiscriv", "annulla iscrizione",
        "afmelden", "uitschrijven", "avprenumerera", "wypisz", "odhlásit", "отписаться", "配信停止", "退订",
    )  # fmt: skip
    spam_url: Annotated[str, Meta(description="where a spam filter speaks rspamd's HTTP protocol; empty: none")] = ""
    spam_seconds: Annotated[float, Meta(description="longest wait for the spam filter", gt=0)] = 5
    spam_unreachable: Annotated[
        Literal["accept", "defer"],
        Meta(
            description="what follows where spam is refused and the filter does not answer: accept, or defer with 451"
        ),
    ] = "accept"
    spam_bytes: Annotated[int, Meta(description="octets up to which messages are shown to the filter", ge=0)] = (
        8_388_608
    )
    spam_connections: Annotated[int, Meta(description="connections to the spam filter at once", ge=1)] = 50

    connections: Annotated[int, Meta(description="connections in all", ge=1)] = 20_000
    connections_per_network: Annotated[int, Meta(description="connections from one /24 or IPv6 /56", ge=1)] = 12_000
    connections_per_address: Annotated[
        int, Meta(description="connections from one address, in IPv6 from one /64", ge=1)
    ] = 12_000
    strangers_per_address: Annotated[
        int, Meta(description="connections from one address (IPv6: /64) that have not logged in", ge=1)
    ] = 200
    command_bytes: Annotated[int, Meta(description="octets of a command line", ge=512)] = 2_048
    auth_line_bytes: Annotated[int, Meta(description="octets of a line of the AUTH exchange", ge=512)] = 12_288
    errors: Annotated[int, Meta(description="permanent refusals in a session before it is closed", ge=1)] = 20
    idle_commands: Annotated[int, Meta(description="NOOP, RSET, VRFY and such between two messages", ge=1)] = 100
    transactions: Annotated[int, Meta(description="MAIL commands in a session", ge=1)] = 100_000
    failed_logins: Annotated[int, Meta(description="failed logins in a session before it is closed", ge=1)] = 3

    proxy_header_seconds: Annotated[float, Meta(description="time for the PROXY header", gt=0)] = 5
    handshake_seconds: Annotated[float, Meta(description="time for a TLS handshake", gt=0)] = 10
    login_seconds: Annotated[float, Meta(description="time from connecting to a successful login", gt=0)] = 120
    command_seconds: Annotated[float, Meta(description="longest wait for a command", gt=0)] = 300
    reply_seconds: Annotated[float, Meta(description="longest wait for a client to read replies", gt=0)] = 60
    data_seconds: Annotated[float, Meta(description="longest silence while a message arrives", gt=0)] = 180
    data_total_seconds: Annotated[float, Meta(description="time for a whole message to arrive", gt=0)] = 1_800
    session_seconds: Annotated[float, Meta(description="longest session", gt=0)] = 86_400

    calm_burst: Annotated[
        int, Meta(description="messages a configuration may send at once before its mail queues apart", ge=1)
    ] = 50
    calm_messages_per_second: Annotated[
        float, Meta(description="rate up to which a configuration's mail queues with that of the others", gt=0)
    ] = 5.0
    quota_share_seconds: Annotated[
        float, Meta(description="interval of telling the other ingress processes what was sent, for quotas", gt=0)
    ] = 0.5

    usage_seconds: Annotated[
        float, Meta(description="shortest interval of writing down that a password was used", gt=0)
    ] = 60

    login_threads: Annotated[int, Meta(description="threads that verify passwords; 0: half of the cores", ge=0)] = 0
    login_queue: Annotated[int, Meta(description="logins waiting for verification; then 454", ge=1)] = 500
    logins_per_key: Annotated[
        int,
        Meta(
            description="logins at once from an address or its network, or to a user from new addresses; then 454", ge=1
        ),
    ] = 20
    login_cache: Annotated[int, Meta(description="verified credentials remembered", ge=1)] = 50_000
    failed_login_seconds: Annotated[float, Meta(description="time every failed login takes at least", ge=0)] = 0.5
    failed_login_delay_seconds: Annotated[float, Meta(description="delay after the third failure; doubles", ge=0)] = 0.5
    failed_login_delay_cap_seconds: Annotated[float, Meta(description="longest such delay", ge=0)] = 20
    failed_login_half_life_seconds: Annotated[float, Meta(description="half-life of a counted failure", gt=0)] = 300
    refusal_events_per_minute: Annotated[
        int,
        Meta(
            description="refusals of strangers published per address (IPv6: /64) and minute; others are only counted",
            ge=1,
        ),
    ] = 300
    tenant_refusal_events_per_minute: Annotated[
        int, Meta(description="refusals of an instance published and logged per minute; the rest is only counted", ge=1)
    ] = 3_000
