"""Why an address is let in or not, and whom rules in report mode would have refused."""

import asyncio
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.parameters import InstanceId, TheDesk
from services.control.caller import instance_of
from services.control.core import access, allow_list
from services.control.core.access import RuleVerdict
from services.control.core.fault import Fault
from services.control.refusal import bad_request
from shared.bus.kv import Bucket
from shared.contract.records import Configuration
from shared.contract.siblings import RuleReport
from shared.runtime.clock import now

PATH = "/v1/postlane/instances/{instance_id:str}/access"
MOST_REPORTS = 1000


class ListVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration whose imported list of allowed addresses has the address, until its date."""

    domain: str
    until: datetime
    in_force: bool


class AccessExplained(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an address may reach SMTP, and why."""

    admitted: bool
    """By the rules."""
    sentence: str
    rules: tuple[RuleVerdict, ...]
    allow_lists: tuple[ListVerdict, ...]
    """Lists in force admit the address too, for their own configuration."""


@get(PATH, tags=["context-based restrictions"])
async def explain_access(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    address: Annotated[str, QueryParameter(description="an IP address")],
    endpoint: Annotated[str, QueryParameter(description="public or private")] = "public",
) -> AccessExplained:
    """Say why an address is admitted to the SMTP interface of an instance or not."""
    instance_of(desk.directory, caller_of(request), instance_id)
    if endpoint not in ("public", "private"):
        raise bad_request(Fault("invalid_endpoint_type", "endpoint is public or private", "endpoint"))
    try:
        parsed = ip_address(address)
    except ValueError:
        raise bad_request(Fault("invalid_address", f"{address!r} is not an IP address", "address")) from None
    admitted, sentence, verdicts = await asyncio.to_thread(  # 500 zones of 1,000 networks take seconds to read
        access.explain,
        desk.networks.rules(instance_id),
        desk.networks.zones(instance_id),
        parsed,
        "private" if endpoint == "private" else "public",
    )
    lists = _lists(desk, instance_id, parsed)
    forced = [each for each in lists if each.in_force]
    if not admitted and forced:
        domains = ", ".join(each.domain for each in forced)
        until = min(each.until for each in forced)
        sentence += (
            f"; but the imported list of {domains} admits it for that domain until {until:%Y-%m-%d}, after which only "
            "rules count: `postlane rule migrate` turns the list into a zone"
        )
    elif not admitted and lists:
        sentence += f"; the imported list of {lists[0].domain} had it until {lists[0].until:%Y-%m-%d}"
    return AccessExplained(admitted=admitted, sentence=sentence, rules=verdicts, allow_lists=lists)


def _lists(desk: Desk, instance: str, address: IPv4Address | IPv6Address) -> tuple[ListVerdict, ...]:
    at = now()
    return tuple(
        ListVerdict(domain=each.domain, until=each.allowed_until, in_force=bool(allow_list.in_force(each, at)))
        for each in desk.directory.all("configuration.", Configuration)
        if each.instance == instance
        and each.allowed_until is not None
        and access.holds(map(allow_list.zone_address, each.allowed_addresses), address)
    )


class ReportList(msgspec.Struct, frozen=True, kw_only=True):
    """Logins that rules in report mode would have refused, newest first."""

    reports: tuple[RuleReport, ...]


@get(PATH + "/reports", tags=["context-based restrictions"])
async def list_reports(request: Http, desk: TheDesk, instance_id: InstanceId) -> ReportList:
    """Return whom rules in report mode would have refused in the last week, newest first."""
    instance_of(desk.directory, caller_of(request), instance_id)
    bucket: Bucket[RuleReport] = Bucket(desk.bus, "reports", RuleReport)
    found = sorted((each.record for each in await bucket.entries(instance_id)), key=lambda each: each.at, reverse=True)
    return ReportList(reports=tuple(found[:MOST_REPORTS]))


HANDLERS = [explain_access, list_reports]
