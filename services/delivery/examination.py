"""What delivery can say of itself to the doctor: its name servers, and on request whether it reaches exchangers."""

from collections.abc import Sequence

import aiosmtplib

from services.delivery.core import reach
from services.delivery.core.route import Found, NoAnswer
from services.delivery.courier import Courier
from services.delivery.exchangers import Exchangers
from services.delivery.settings import DeliverySettings
from shared.bus.roll_call import Examine
from shared.contract.examination import CallRoll, Finding

ASKED = "example.com"


def examination(settings: DeliverySettings, exchangers: Exchangers, courier: Courier) -> Examine:
    """Return what examines this process."""

    async def examine(call: CallRoll) -> Sequence[Finding]:
        findings = [await _name_servers(exchangers)]
        if call.egress:
            findings.append(await _egress(settings, exchangers, courier, call.egress))
        return findings

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
