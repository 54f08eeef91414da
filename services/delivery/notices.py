"""Writes the mails other rooms ask for: takes each request from NOTICES and stores its mail among the due ones.

The mail is the operator's: from the setting's address, through the configuration of that address's domain, signed and
delivered like any other. Its queue ID follows from the request, so a request that comes twice is written once.
"""

import logging
from datetime import timedelta

import msgspec

from services.delivery.commit import Commits, StatusUnreadable
from services.delivery.core import notice
from services.delivery.gates import Gates
from services.delivery.metrics import Metrics
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.settings import Topology
from shared.bus.streams import PullConsumer, Taken
from shared.contract.envelope import Carriage, Envelope
from shared.contract.errors import UNREADABLE, BusUnavailable, StoreFull
from shared.contract.events import NoticeRequested
from shared.contract.records import Configuration, DomainClaim
from shared.contract.subjects import Place, shard_of, slot_of, token
from shared.mail.address import Address, parse_address
from shared.runtime import clock

log = logging.getLogger("delivery")

BATCH = 20
BATCH_BYTES = 4 << 20
POLL_SECONDS = 20.0
AGAIN_SECONDS = 5.0
UNREADABLE_SECONDS = 300.0
GIVEN_UP_AFTER = timedelta(days=3)
"""A notice that nobody could write for so long tells nothing any more."""


class Notices:
    """The reader of NOTICES; any number of replicas share its consumer."""

    def __init__(
        self,
        settings: DeliverySettings,
        topology: Topology,
        bus: Bus,
        gates: Gates,
        commits: Commits,
        metrics: Metrics,
    ) -> None:
        self._sender = settings.notice_sender
        self._topology = topology
        self._bus = bus
        self._consumer = PullConsumer(bus, "NOTICES", "delivery")
        self._gates = gates
        self._commits = commits
        self._metrics = metrics

    async def run(self) -> None:
        """Write for ever."""
        while True:
            for taken in await self._consumer.fetch(BATCH, BATCH_BYTES, POLL_SECONDS):
                await self._take(taken)

    async def _take(self, taken: Taken) -> None:
        try:
            request = msgspec.json.decode(taken.payload, type=NoticeRequested)
        except UNREADABLE as fault:
            self._metrics.alarms.labels("notice-unreadable").inc()
            log.error("a notice cannot be read and waits for a version that can: %s", fault)
            await taken.nak(UNREADABLE_SECONDS)
            return
        about = {"notice": request.id, "configuration": request.configuration}
        try:
            done = await self._written(request)
        except (BusUnavailable, StoreFull, StatusUnreadable) as fault:
            log.warning("a notice is not written yet: %s", fault, extra=about)
            await taken.nak(AGAIN_SECONDS)
            return
        except Exception:
            self._metrics.alarms.labels("notice").inc()
            log.exception("a notice could not be written", extra=about)
            done = ""
        if not done:
            await taken.nak(AGAIN_SECONDS if taken.deliveries < 10 else UNREADABLE_SECONDS)
            return
        self._metrics.notices.labels(done).inc()
        await taken.ack()

    async def _written(self, request: NoticeRequested) -> str:
        """Write one notice; return what became of it, "" if it is to be tried again later."""
        about = {"notice": request.id, "configuration": request.configuration}
        if not self._sender:
            log.warning("not sent, for POSTLANE_DELIVERY_NOTICE_SENDER is not set: %s", request.subject, extra=about)
            return "unset"
        configuration = self._operators()
        if configuration is None:
            if clock.now() - request.at > GIVEN_UP_AFTER:
                log.error("given up, its sender never had a configuration: %s", request.subject, extra=about)
                return "given-up"
            log.warning(
                "a notice waits: no configuration has the domain of POSTLANE_DELIVERY_NOTICE_SENDER %s",
                self._sender,
                extra=about,
            )
            return ""
        report = notice.written(request, configuration, self._sender, clock.now())
        if report is None:
            log.error("not sent, for none of its recipients is an address: %s", request.subject, extra=about)
            return "no-recipient"
        envelope = report.envelope
        place = self._place(envelope)
        if await self._known(place, envelope):
            return "repeated"
        yesterday = msgspec.structs.replace(envelope, queue_id=notice.queue_id_of(request, days_earlier=1))
        if await self._known(self._place(yesterday), yesterday):
            return "repeated"
        await self._commits.put_due(place, Carriage(envelope=envelope), report.mail)
        log.info("notice written: %s", request.subject, extra=about | {"queue_id": envelope.queue_id})
        return "written"

    async def _known(self, place: Place, envelope: Envelope) -> bool:
        """Return whether a mail was written before: it has come some way, or lies where it begins."""
        last, _ = await self._commits.last(envelope)
        return last is not None or await self._bus.last(place.retry_stream, place.due) is not None

    def _place(self, envelope: Envelope) -> Place:
        queue_id, configuration = envelope.queue_id, envelope.configuration
        shard, slot = shard_of(queue_id, self._topology.shards), slot_of(configuration, self._topology.slots)
        return Place(shard, envelope.lane, slot, configuration, queue_id)

    def _operators(self) -> Configuration | None:
        """Return the configuration that has the domain of our sender."""
        sender = parse_address(self._sender)
        if not isinstance(sender, Address):
            return None
        claim = self._gates.directory.get(f"domain.{token(sender.domain)}")
        return self._gates.configuration(claim.configuration) if isinstance(claim, DomainClaim) else None
