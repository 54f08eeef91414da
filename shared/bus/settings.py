"""How a room reaches the bus, and the bus's shape."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.runtime.secret import Secret
from shared.runtime.settings import Settings


class BusSettings(Settings, frozen=True, kw_only=True):
    """The connection of a room to NATS. Names: `POSTLANE_BUS_…`."""

    url: Annotated[str, Meta(description="NATS server or servers, comma separated")] = "nats://127.0.0.1:4222"
    user: Annotated[str, Meta(description="NATS user; empty: the room's own name")] = ""
    password: Annotated[Secret, Meta(description="password of the NATS user")] = Secret("")
    ca_file: Annotated[Path | None, Meta(description="CA certificate that signed the server's; needs a tls:// URL")] = (
        None
    )
    ping_seconds: Annotated[int, Meta(description="interval of pings; two unanswered ones end a connection", ge=1)] = 3
    replicas: Annotated[int, Meta(description="copies of every stream: 1, or 3 in a cluster", ge=1, le=5)] = 1


class Topology(Settings, frozen=True, kw_only=True):
    """The shape of the streams, the same for every room; shards and slots stay for life. `POSTLANE_TOPOLOGY_…`."""

    shards: Annotated[int, Meta(description="mail streams, so that their fsyncs run side by side", ge=1, le=16)] = 4
    slots: Annotated[int, Meta(description="consumers per lane and shard that tenants are hashed to", ge=1, le=256)] = (
        16
    )
    mail_bytes: Annotated[
        int, Meta(description="most octets in one mail stream, then clients are told 452; an eighth of it for refusals")
    ] = 1 << 30
    status_hours: Annotated[int, Meta(description="hours that status, accepted and refused events are kept", ge=1)] = 48
