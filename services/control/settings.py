"""Settings of control. Names: `POSTLANE_CONTROL_…`."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.runtime.settings import Settings


class ControlSettings(Settings, frozen=True, kw_only=True):
    """Where control listens, what it advises customers, and every limit it holds clients to."""

    listen: Annotated[str, Meta(description="host:port of the management API")] = "127.0.0.1:8580"
    tls_certificate_file: Annotated[
        Path | None, Meta(description="PEM file of the API's certificate and its chain; none: HTTP without TLS")
    ] = None
    tls_key_file: Annotated[Path | None, Meta(description="PEM file of the certificate's private key")] = None
    tls_reload_seconds: Annotated[float, Meta(description="interval of looking for a new certificate", gt=0)] = 30
    public_url: Annotated[
        str, Meta(description="base URL clients reach the API at, for links; empty: as each request names it")
    ] = ""
    console: Annotated[bool, Meta(description="serve the web console under /console, over the same API")] = True
    master_key_file: Annotated[
        Path, Meta(description="file of the key that seals DKIM keys and signs tokens; below it those it replaced")
    ]
    spf_include: Annotated[
        str, Meta(description="name whose SPF record lists this relay's addresses; customers include it")
    ] = ""
    egress_addresses: Annotated[
        tuple[str, ...],
        Meta(description="addresses mail is sent from; advised in SPF records when spf_include is empty"),
    ] = ()
    endpoints: Annotated[
        tuple[str, ...],
        Meta(
            description="endpoints told to customers, one entry per region: "
            "region;public host:port;private host:port;outgoing addresses separated by spaces, and if there are "
            "listeners with TLS from the first octet: ;public TLS host:port;private TLS host:port"
        ),
    ] = ()

    dkim_zone: Annotated[
        str,
        Meta(
            description="zone of the operator's DNS that publishes the keys of delegated domains; empty: no domain can "
            "be delegated"
        ),
    ] = ""
    dkim_retire_seconds: Annotated[
        int, Meta(description="how long a replaced signing key stays published, for mail under way", ge=0)
    ] = 7 * 86_400
    dkim_finish_seconds: Annotated[
        float, Meta(description="interval of looking for rotations that finish by themselves", gt=0)
    ] = 10

    confirmation_seconds: Annotated[
        int, Meta(description="how long the mailed link confirms an address for bounce reports", ge=60)
    ] = 7 * 86_400
    confirmation_mails_per_hour: Annotated[
        int, Meta(description="links mailed for one configuration per hour", ge=1)
    ] = 6
    confirmation_mails_per_address: Annotated[
        int, Meta(description="links mailed to one address per hour, for whichever configurations", ge=1)
    ] = 20
    takeover_seconds: Annotated[int, Meta(description="how long a challenge to prove a domain may be met", ge=60)] = (
        7 * 86_400
    )
    takeovers_per_instance: Annotated[int, Meta(description="open challenges of an instance", ge=1)] = 20

    users_per_configuration: Annotated[int, Meta(description="SMTP users of a configuration", ge=1)] = 5
    configurations_per_instance: Annotated[int, Meta(description="SMTP configurations of an instance", ge=1)] = 1000
    keys_per_instance: Annotated[int, Meta(description="usable API keys of an instance", ge=1)] = 100
    argon2_time_cost: Annotated[int, Meta(description="passes of Argon2id over its memory", ge=1)] = 2
    argon2_memory_kib: Annotated[int, Meta(description="memory of one Argon2id hash, in KiB", ge=8)] = 19_456
    argon2_parallelism: Annotated[int, Meta(description="lanes of Argon2id", ge=1)] = 1
    hashing_threads: Annotated[int, Meta(description="threads that hash passwords and make DKIM keys", ge=1)] = 2
    allow_list_days: Annotated[
        int, Meta(description="how long an imported list of allowed addresses admits besides the rules", ge=0)
    ] = 183
    rotation_seconds: Annotated[
        int,
        Meta(description="how long the old password of a rotated user goes on working", ge=0),
    ] = 7 * 86_400
    lapse_seconds: Annotated[
        float, Meta(description="after this time an unfinished creation no longer holds its place or domain", gt=0)
    ] = 60

    requests_per_second: Annotated[float, Meta(description="requests of one API key, over time", gt=0)] = 200
    lookups_per_second: Annotated[
        float, Meta(description="requests of an instance that look DNS up, over time: verify, records", gt=0)
    ] = 5
    lookups_at_once: Annotated[int, Meta(description="requests of an instance that look DNS up, in a burst", ge=1)] = (
        100
    )
    requests_at_once: Annotated[int, Meta(description="requests of one API key in a burst", ge=1)] = 2_000
    strangers_per_second: Annotated[
        float, Meta(description="requests of one address without a good key, over time", gt=0)
    ] = 2
    strangers_at_once: Annotated[int, Meta(description="requests of one address without a good key", ge=1)] = 50
    audit_examined: Annotated[
        int, Meta(description="records of the audit log looked at for one page, whatever is asked for", ge=1)
    ] = 20_000
    request_bytes: Annotated[int, Meta(description="largest body of a request", ge=1024)] = 1_048_576
    request_seconds: Annotated[float, Meta(description="longest wait for another room's answer", gt=0)] = 5
    verify_seconds: Annotated[float, Meta(description="longest wait for the verifier's answer", gt=0)] = 30
    usage_seconds: Annotated[
        float, Meta(description="shortest interval of writing down that an API key was used", gt=0)
    ] = 60
    token_seconds: Annotated[int, Meta(description="life of a token made from an API key", ge=60)] = 3600
    follow_poll_seconds: Annotated[float, Meta(description="interval of looking for new events of a message", gt=0)] = (
        0.2
    )
    follow_seconds: Annotated[float, Meta(description="longest life of one stream of events", gt=0)] = 3600
    doctor_seconds: Annotated[float, Meta(description="longest wait for the answers to `postlane doctor`", gt=0)] = 12
    doctor_fill_percent: Annotated[
        int, Meta(description="`doctor` calls a store or stream nearly full from here on", ge=1, le=100)
    ] = 80
    doctor_clock_seconds: Annotated[
        float, Meta(description="`doctor` calls clocks wrong that are further apart", gt=0)
    ] = 2
    doctor_waiting_messages: Annotated[
        int, Meta(description="`doctor` calls a reader slow that has left so many messages of a stream", ge=1)
    ] = 10_000
    drain_seconds: Annotated[float, Meta(description="time for requests to finish when told to stop", gt=0)] = 5
