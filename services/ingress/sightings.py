"""Tells whoever listens that a client logged in, or left before it did: one broadcast a session, kept by nobody."""

import secrets
from typing import Literal

import msgspec

from services.ingress.allowance import Allowance
from services.ingress.core.access import source_named
from services.ingress.session import SubmissionSession
from services.ingress.settings import IngressSettings
from shared.bus.client import Bus
from shared.contract import subjects
from shared.contract.events import ClientSeen
from shared.runtime import clock

ID_BYTES = 12


class Sightings:
    """Publishes sightings; those of clients that left without a login are limited per address."""

    def __init__(self, bus: Bus, settings: IngressSettings) -> None:
        """Publish on the bus of the process."""
        self._bus = bus
        self._strangers = Allowance(settings.refusal_events_per_minute)

    async def logged_in(self, session: SubmissionSession) -> None:
        """Tell that a session has logged in."""
        if session.login is not None:
            await self._tell(_seen(session, "logged-in", ""))

    async def left(self, session: SubmissionSession, phase: str) -> None:
        """Tell that a session has ended, if nobody ever logged in; `phase` is how far it came."""
        if session.login is None and self._strangers.take(source_named(session.client_address)):
            await self._tell(_seen(session, "left", phase))

    async def _tell(self, sighting: ClientSeen) -> None:
        await self._bus.publish(subjects.client(sighting.instance), msgspec.json.encode(sighting))


def _seen(session: SubmissionSession, stage: Literal["logged-in", "left"], detail: str) -> ClientSeen:
    return ClientSeen(
        id=secrets.token_hex(ID_BYTES),
        at=clock.now(),
        stage=stage,
        client_address=session.client_address,
        endpoint=session.endpoint,
        instance=session.login.instance if session.login else "",
        username=session.login.username if session.login else "",
        client_name=session.client_name,
        tls=session.tls,
        detail=detail,
    )
