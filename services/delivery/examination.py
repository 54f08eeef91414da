"""What delivery can say to the doctor: its name servers, what it could not read, and on request whether it gets out."""

from collections.abc import Sequence

import aiosmtplib

from services.delivery.core import reach
from services.delivery.core.route import Found, NoAnswer
from services.delivery.courier import Courier
from services.delivery.exchangers import Exchangers
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.roll_call import Examine
from shared.contract.errors import BusUnavailable
from shared.contract.examination import CallRoll, Finding
from shared.contract.subjects import mail_stream

ASKED = "example.com"
NAMED = 5
"""Messages of the quarantine that are named."""


def examination(settings: DeliverySettings, exchangers: Exchangers, courier: Courier) -> Examine:
    """Return what examines this process."""

    async def examine(call: CallRoll) -> Sequence[Finding]:
        findings = [await _name_servers(exchangers)]
        if call.egress:
            findings.append(await _egress(settings, exchangers, courier, call.egress))
        return findings

    return examine


def quarantine(bus: Bus, shards: int) -> Examine:
    """Return what looks for messages that nobody could read: without an envelope there is no tenant to tell."""

    async def examine(_call: CallRoll) -> Sequence[Finding]:
        found: list[str] = []
        try:
            for shard in range(shards):
                state = await bus.stream_state(mail_stream(shard), f"postlane.mail.{shard}.quarantine.*")
                found += [subject.rpartition(".")[2] for subject in state.subjects]
        except BusUnavailable:
            return ()  # which is found elsewhere
        if not found:
            return (Finding(check="quarantine", state="ok", sentence="no message lies in quarantine"),)
        named = ", ".join(sorted(found)[:NAMED]) + (", ..." if len(found) > NAMED else "")
        return (
            Finding(
                check="quarantine",
                state="bad",
                sentence=f"messages in quarantine, because they could not be read: {len(found)} ({named})",
                advice="they are not tried any more: delivery's log says why under their queue IDs, docs/durability.md "
                "where their octets lie",
            ),
        )

    return examine


async def _name_servers(exchangers: Exchangers) -> Finding:
    answer = await exchangers.mx(ASKED)
    if isinstance(answer, NoAnswer):
        return Finding(
            check="name server",
            state="bad",
            sentence=f"the exchangers of {ASKED} cannot be looked up: {answer.why}",
            advice="mail is deferred meanwhile: see POSTLANE_DELIVERY_RESOLVERS",
        )
    return Finding(check="name server", state="ok", sentence="the name servers answer")


async def _egress(settings: DeliverySettings, exchangers: Exchangers, courier: Courier, host: str) -> Finding:
    """Connect to an exchanger and read its greeting; nothing is sent."""
    allowed, refused = reach.networks(settings.allowed_networks), reach.networks(settings.refused_networks)
    advice = (
        f"many providers block TCP port {courier.port} until they are asked to open it; see also "
        "POSTLANE_DELIVERY_EGRESS_ADDRESSES and the firewall"
    )
    said = f"{host} has no address"
    six, four = await exchangers.addresses(host)
    for address in [a for found in (four, six) if isinstance(found, Found) for a in found.values]:
        if denied := reach.refusal(address, allowed, refused):
            said = f"{address}: {denied}"
            continue
        session = courier.session()
        try:
            await session.dial(address, courier.port, courier.source("", address) or "")
            await session.greeting()
        except (OSError, TimeoutError, aiosmtplib.SMTPException) as fault:
            said = f"{address} port {courier.port}: {fault or type(fault).__name__}"
        else:
            return Finding(check="egress", state="ok", sentence=f"{host} ({address}) port {courier.port} greets us")
        finally:
            session.close()
    return Finding(check="egress", state="bad", sentence=f"{host} cannot be reached: {said}", advice=advice)
