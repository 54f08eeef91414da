"""IBM's context-based restrictions: network zones."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import Response, delete, get, post, put
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, base_url
from services.control.api.desk import Desk
from services.control.api.parameters import TheDesk
from services.control.caller import Caller, found_by_id, instance_of
from services.control.core import access_rules
from services.control.core.fault import Fault
from services.control.networks import ZoneWish
from services.control.refusal import bad_request
from shared.contract.records import Zone, ZoneAddress

CRN = "crn:v1:bluemix:public:context-based-restrictions:global:a/{account}::{kind}:{id}"


class AddressIn(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a zone as a client writes it."""

    type: str
    value: str = ""


class ZoneIn(msgspec.Struct, frozen=True, kw_only=True):
    """A zone as a client writes it; what is left out is empty."""

    name: str
    account_id: str
    addresses: tuple[AddressIn, ...] = ()
    excluded: tuple[AddressIn, ...] = ()
    description: str = ""


class AddressOut(msgspec.Struct, frozen=True, kw_only=True):
    """An address of a zone."""

    type: Literal["ipAddress", "ipRange", "subnet"]
    value: str


class ZoneOut(msgspec.Struct, frozen=True, kw_only=True):
    """A zone."""

    id: str
    crn: str
    name: str
    account_id: str
    description: str
    addresses: tuple[AddressOut, ...]
    excluded: tuple[AddressOut, ...]
    address_count: int
    excluded_count: int
    href: str
    created_at: datetime
    created_by_id: str
    last_modified_at: datetime
    last_modified_by_id: str


class ZoneSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A zone in a list: a few of its addresses."""

    id: str
    crn: str
    name: str
    description: str
    addresses_preview: tuple[AddressOut, ...]
    address_count: int
    excluded_count: int
    href: str
    created_at: datetime
    created_by_id: str
    last_modified_at: datetime
    last_modified_by_id: str


class ZoneList(msgspec.Struct, frozen=True, kw_only=True):
    """All zones of an account."""

    count: int
    zones: tuple[ZoneSummary, ...]


PREVIEWED = 3
IfMatch = Annotated[str, HeaderParameter(name="If-Match", description="the ETag of the object to replace")]
AccountId = Annotated[str, QueryParameter(description="the instance's ID")]


def etag(revision: int) -> str:
    """Return a revision as an entity tag."""
    return f'"{revision}"'


def revision_of(if_match: str) -> int:
    """Read an entity tag of ours; any other matches nothing."""
    text = if_match.strip().removeprefix("W/").strip('"')
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def account_of(desk: Desk, caller: Caller, account_id: str, *, write: bool = False) -> str:
    """Check an account, which is an instance.

    Errors: `Refused`: 400 if it is malformed, 404 if it is unknown or another's, 403 for readers who write.
    """
    if not access_rules.is_account(account_id):
        raise bad_request(Fault("invalid_account_id", "account_id must be the ID of an instance", "account_id"))
    return instance_of(desk.directory, caller, account_id, write=write).id


def _out(addresses: tuple[ZoneAddress, ...]) -> tuple[AddressOut, ...]:
    return tuple(AddressOut(type=each.type, value=each.value) for each in addresses)


def _shown(zone: Zone, base: str) -> ZoneOut:
    return ZoneOut(
        id=zone.id,
        crn=CRN.format(account=zone.instance, kind="zone", id=zone.id),
        name=zone.name,
        account_id=zone.instance,
        description=zone.description,
        addresses=_out(zone.addresses),
        excluded=_out(zone.excluded),
        address_count=len(zone.addresses),
        excluded_count=len(zone.excluded),
        href=f"{base}/v1/zones/{zone.id}",
        created_at=zone.created_at,
        created_by_id=zone.created_by,
        last_modified_at=zone.updated_at,
        last_modified_by_id=zone.updated_by,
    )


def _summary(zone: Zone, base: str) -> ZoneSummary:
    return ZoneSummary(
        id=zone.id,
        crn=CRN.format(account=zone.instance, kind="zone", id=zone.id),
        name=zone.name,
        description=zone.description,
        addresses_preview=_out(zone.addresses[:PREVIEWED]),
        address_count=len(zone.addresses),
        excluded_count=len(zone.excluded),
        href=f"{base}/v1/zones/{zone.id}",
        created_at=zone.created_at,
        created_by_id=zone.created_by,
        last_modified_at=zone.updated_at,
        last_modified_by_id=zone.updated_by,
    )


def _wish(account: str, data: ZoneIn) -> ZoneWish:
    return ZoneWish(
        instance=account,
        name=data.name,
        addresses=tuple((each.type, each.value) for each in data.addresses),
        excluded=tuple((each.type, each.value) for each in data.excluded),
        description=data.description,
    )


def _found(desk: Desk, caller: Caller, zone_id: str, *, write: bool = False) -> Zone:
    return found_by_id(desk.directory, caller, Zone, "zone", zone_id, write=write)


@post("/v1/zones", tags=["context-based restrictions"])
async def create_zone(request: Http, desk: TheDesk, data: JSONBody[ZoneIn]) -> Response[ZoneOut]:
    """Create a network zone."""
    caller = caller_of(request)
    account = account_of(desk, caller, data.account_id, write=True)
    zone, revision = await desk.networks.create_zone(caller, _wish(account, data))
    return Response(_shown(zone, base_url(request, desk)), headers={"ETag": etag(revision)})


@get("/v1/zones", tags=["context-based restrictions"])
async def list_zones(
    request: Http,
    desk: TheDesk,
    account_id: AccountId,
    name: Annotated[str, QueryParameter(description="only the zone of this name")] = "",
    sort: Annotated[str, QueryParameter(description="name or created_at; with - in front: backwards")] = "",
) -> ZoneList:
    """List the zones of an account."""
    account = account_of(desk, caller_of(request), account_id)
    base = base_url(request, desk)
    found = [_summary(zone, base) for zone in desk.networks.zones(account).values() if not name or zone.name == name]
    key = sort.removeprefix("-") or "created_at"
    if key not in ("name", "created_at", "last_modified_at", "description"):
        raise bad_request(Fault("invalid_sort", "sort by name, description, created_at or last_modified_at", "sort"))
    found.sort(key=lambda zone: (getattr(zone, key), zone.id), reverse=sort.startswith("-"))
    return ZoneList(count=len(found), zones=tuple(found))


@get("/v1/zones/{zone_id:str}", tags=["context-based restrictions"])
async def get_zone(request: Http, desk: TheDesk, zone_id: FromPath[str]) -> Response[ZoneOut]:
    """Return a zone, with its ETag."""
    zone = _found(desk, caller_of(request), zone_id)
    revision = desk.directory.revision(f"zone.{zone_id}")
    return Response(_shown(zone, base_url(request, desk)), headers={"ETag": etag(revision)})


@put("/v1/zones/{zone_id:str}", tags=["context-based restrictions"])
async def replace_zone(
    request: Http, desk: TheDesk, zone_id: FromPath[str], if_match: IfMatch, data: JSONBody[ZoneIn]
) -> Response[ZoneOut]:
    """Replace a zone as a whole, if it is still the one that was read."""
    caller = caller_of(request)
    zone = _found(desk, caller, zone_id, write=True)
    if data.account_id != zone.instance:
        raise bad_request(Fault("invalid_account_id", "a zone stays in its account", "account_id"))
    replaced, revision = await desk.networks.replace_zone(
        caller, zone, _wish(zone.instance, data), revision_of(if_match)
    )
    return Response(_shown(replaced, base_url(request, desk)), headers={"ETag": etag(revision)})


@delete("/v1/zones/{zone_id:str}", tags=["context-based restrictions"])
async def delete_zone(request: Http, desk: TheDesk, zone_id: FromPath[str]) -> None:
    """Remove a zone that no rule references."""
    caller = caller_of(request)
    await desk.networks.remove_zone(caller, _found(desk, caller, zone_id, write=True))


HANDLERS = [create_zone, list_zones, get_zone, replace_zone, delete_zone]
