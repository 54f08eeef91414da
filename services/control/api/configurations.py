"""IBM's operations on SMTP configurations: create, list, get, update, delete, verify, allowed IPs."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, Limit, Offset, Search, TheDesk
from services.control.caller import configuration_of, instance_of
from services.control.core import access, allow_list, onboarding, paging, record_advice
from services.control.core.fault import Fault
from services.control.refusal import bad_request
from shared.contract import requests
from shared.contract.records import Authorization, Configuration
from shared.contract.standing import Standing
from shared.runtime.clock import now

Http = Request[Any, Any, Any]
VERIFIABLE = ("dkim", "spf", "en_authorization")


class TxtRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A TXT record to publish, and whether it was found."""

    txt_name: str
    txt_value: str
    verification: Literal["PENDING", "SUCCESSFUL"]


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the operator has approved sending."""

    verification: Literal["PENDING", "SUCCESSFUL"]


class SmtpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What must be in place before a configuration may send."""

    dkim: TxtRecord
    spf: TxtRecord
    en_authorization: Approval


class SmtpConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration; `created_at` only when it has just been created."""

    id: str
    name: str
    description: str
    domain: str
    config: SmtpConfig
    created_at: datetime | UnsetType = UNSET
    updated_at: datetime | UnsetType = UNSET


class CreateConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration to create."""

    name: str
    domain: str
    description: str = ""
    delegate: bool = False
    """Publish CNAMEs into the operator's zone instead of the DKIM key; not in IBM's API."""


class UpdateConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """What may change of a configuration; what is left out stays."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Another page."""

    href: str


class ConfigurationsList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of configurations."""

    total_count: int
    offset: int
    limit: int
    smtp_configurations: tuple[SmtpConfiguration, ...]
    first: Link
    previous: Link | UnsetType = UNSET
    next: Link | UnsetType = UNSET


class VerificationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one of the checks gave."""

    type: str
    verification: Literal["PENDING", "SUCCESSFUL"]


class VerificationReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks gave."""

    status: tuple[VerificationStatus, ...]


class AllowedIps(msgspec.Struct, frozen=True, kw_only=True):
    """Networks that may connect, as the rules of the instance say."""

    subnets: tuple[str, ...]
    updated_at: datetime


def base_url(request: Http, desk: Desk) -> str:
    """Return where the client reaches the API, for links."""
    return desk.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")


def shown(desk: Desk, configuration: Configuration, *, created: bool = False) -> SmtpConfiguration:
    """Return a configuration in IBM's shape."""
    standing = desk.directory.standings.get(configuration.id)
    authorization = desk.directory.get(f"authorization.{configuration.id}", Authorization)
    return SmtpConfiguration(
        id=configuration.id,
        name=configuration.name,
        description=configuration.description,
        domain=configuration.domain,
        config=SmtpConfig(
            dkim=TxtRecord(
                txt_name=record_advice.dkim_name(configuration),
                txt_value=configuration.dkim_value,
                verification=onboarding.verification(standing, "dkim"),
            ),
            spf=TxtRecord(
                txt_name=configuration.domain,
                txt_value=configuration.spf_value,
                verification=onboarding.verification(standing, "spf"),
            ),
            en_authorization=Approval(verification=onboarding.authorized(authorization)),
        ),
        created_at=configuration.created_at if created else UNSET,
        updated_at=UNSET if created else configuration.updated_at,
    )


@post("/v1/instances/{instance_id:str}/smtp/config", tags=["smtp configurations"])
async def create_configuration(
    request: Http, desk: TheDesk, instance_id: InstanceId, data: JSONBody[CreateConfiguration]
) -> SmtpConfiguration:
    """Create an SMTP configuration for a domain, with its DKIM key."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id, write=True)
    made = await desk.configurations.create(
        caller, instance_id, data.name, data.domain, data.description, delegate=data.delegate
    )
    return shown(desk, made, created=True)


@get("/v1/instances/{instance_id:str}/smtp/config", tags=["smtp configurations"])
async def list_configurations(
    request: Http, desk: TheDesk, instance_id: InstanceId, limit: Limit = 10, offset: Offset = 0, search: Search = ""
) -> ConfigurationsList:
    """List SMTP configurations, oldest first."""
    instance_of(desk.directory, caller_of(request), instance_id)
    if faults := paging.paging_faults(limit, offset, search):
        raise bad_request(*faults)
    found = sorted(
        (c for c in desk.directory.all("configuration.", Configuration) if c.instance == instance_id),
        key=lambda c: (c.created_at, c.id),
    )
    page = paging.page([(c, (c.name, c.description, c.domain)) for c in found], limit, offset, search)
    base = f"{base_url(request, desk)}/v1/instances/{instance_id}/smtp/config"
    return ConfigurationsList(
        total_count=page.total,
        offset=offset,
        limit=limit,
        smtp_configurations=tuple(shown(desk, c) for c in page.items),
        first=Link(href=page.link(base, 0, search)),
        previous=UNSET if page.previous is None else Link(href=page.link(base, page.previous, search)),
        next=UNSET if page.next is None else Link(href=page.link(base, page.next, search)),
    )


@get("/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}", tags=["smtp configurations"])
async def get_configuration(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SmtpConfiguration:
    """Return an SMTP configuration."""
    return shown(desk, configuration_of(desk.directory, caller_of(request), instance_id, configuration_id))


@patch("/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}", tags=["smtp configurations"])
async def update_configuration(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[UpdateConfiguration],
) -> SmtpConfiguration:
    """Change name or description; the domain and its records never change."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    given = {"name": data.name, "description": data.description}
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not UNSET}
    edited, _ = await desk.configurations.edit(caller, found, changes)
    return shown(desk, edited)


@delete("/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}", tags=["smtp configurations"])
async def delete_configuration(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> None:
    """Remove a configuration with its users; sending ends, the domain is free again."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    await desk.configurations.remove(caller, found)


@patch("/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}/verify", tags=["smtp configurations"])
async def verify_configuration(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    kind: Annotated[str, QueryParameter(name="type", description="spf, dkim, en_authorization; several with commas")],
) -> VerificationReply:
    """Check now; a check that does not pass is an answer, not an error."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    kinds = [part.strip() for part in kind.split(",")]
    if not kinds or any(part not in VERIFIABLE for part in kinds):
        raise bad_request(Fault("invalid_type", f"type is one or more of {', '.join(VERIFIABLE)}", "type"))
    standing = desk.directory.standings.get(found.id)
    if "spf" in kinds or "dkim" in kinds:
        standing = await verify_now(desk, found)
    authorization = desk.directory.get(f"authorization.{found.id}", Authorization)
    outcomes = {
        "spf": onboarding.verification(standing, "spf"),
        "dkim": onboarding.verification(standing, "dkim"),
        "en_authorization": onboarding.authorized(authorization),
    }
    return VerificationReply(
        status=tuple(VerificationStatus(type=part, verification=outcomes[part]) for part in dict.fromkeys(kinds))
    )


async def verify_now(desk: Desk, configuration: Configuration) -> Standing:
    """Ask the verifier to look now.

    Errors: `Refused`: 429 if the instance asks too often, 503 if nobody answers; `RequestFailed`.
    """
    desk.lookups.count(configuration.instance)
    wish = requests.VerifyNow(configuration=configuration.id)
    reply = await desk.ask("verifier", requests.VERIFY, wish, requests.Verified, desk.settings.verify_seconds)
    await desk.directory.stands(reply.standing)
    return reply.standing


@get("/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}/allowed_ips", tags=["smtp configurations"])
async def get_allowed_ips(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> AllowedIps:
    """Return the networks the instance's rules admit, and those of an imported list while it lasts."""
    found = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    rules, zones = desk.networks.rules(instance_id), desk.networks.zones(instance_id)
    times = [found.created_at, *(rule.updated_at for rule in rules), *(zone.updated_at for zone in zones.values())]
    subnets = await asyncio.to_thread(access.allowed_subnets, rules, zones)
    listed = allow_list.in_force(found, now())
    if listed:
        times.append(found.updated_at)
    return AllowedIps(subnets=tuple(dict.fromkeys((*subnets, *listed))), updated_at=max(times))


HANDLERS = [
    create_configuration,
    list_configurations,
    get_configuration,
    update_configuration,
    delete_configuration,
    verify_configuration,
    get_allowed_ips,
]
