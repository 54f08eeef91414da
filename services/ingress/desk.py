"""What the sessions of a process share."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from services.ingress.authentication import Authentication
from services.ingress.connections import Connections
from services.ingress.core.access import IpAddress
from services.ingress.metrics import Metrics
from services.ingress.proof import Proof
from services.ingress.reception import Reception
from services.ingress.refusals import Refusals
from services.ingress.settings import IngressSettings
from services.ingress.sightings import Sightings
from services.ingress.spool import Budget
from services.ingress.usage import Usage
from shared.runtime.server_certificate import Certificate


class Drainable(Protocol):
    """A session, as far as whoever drains it is concerned."""

    def wake(self) -> None:
        """Let the session look at `draining`."""

    def abort(self) -> None:
        """End the session at once."""


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the sessions of a process share; made and owned by `app.py`."""

    settings: IngressSettings
    certificate: Certificate
    connections: Connections
    authentication: Authentication
    reception: Reception
    refusals: Refusals
    sightings: Sightings
    usage: Usage
    proof: Proof
    budget: Budget
    metrics: Metrics
    trusts: Callable[[IpAddress], bool]
    """Whether a peer is a balancer that sends a PROXY header."""
    tasks: asyncio.TaskGroup
    log: Any
    sessions: set[Drainable]
    draining: asyncio.Event
    """The process is told to stop: who is in no transaction goes."""
    over: asyncio.Event
    """So is the time for transactions: who has not sent all of a message goes too."""
