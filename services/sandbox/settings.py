"""Settings of the sandbox."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from shared.runtime.settings import Settings


class SandboxSettings(Settings, frozen=True, kw_only=True):
    """Where the sandbox listens and keeps its things. Names: `POSTLANE_SANDBOX_…`."""

    directory: Annotated[Path, Meta(description="directory of the zones, the Maildir and the ledger")]
    dns_listen: Annotated[str, Meta(description="host:port of the name server, UDP and TCP")] = "127.0.0.1:5353"
    mx_listen: Annotated[str, Meta(description="host:port of the mail exchanger")] = "127.0.0.1:2525"
    mx_name: Annotated[str, Meta(description="name in the exchanger's greeting and certificate")] = "mx.sandbox.example"
    ttl_seconds: Annotated[int, Meta(description="TTL of records that were set without one", ge=0)] = 1
    size_limit_bytes: Annotated[int, Meta(description="largest message the exchanger takes", ge=1)] = 64 << 20
    starttls: Annotated[bool, Meta(description="whether the exchanger offers STARTTLS")] = True
    idle_seconds: Annotated[int, Meta(description="silence after which a connection is closed", ge=1)] = 300
