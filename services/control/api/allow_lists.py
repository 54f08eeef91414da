"""The deprecated lists of allowed addresses: imported by operators, shown, turned into zones and rules."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get, post, put
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import configuration_of, instance_of
from services.control.core import allow_list
from services.control.core.allow_list import Migration
from shared.contract.records import Configuration
from shared.runtime.clock import now

INSTANCE = "/v1/postlane/instances/{instance_id:str}"
ONE = INSTANCE + "/configurations/{configuration_id:str}/allowed_addresses"


class AllowListIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list to import in place of the present one; an empty list ends it."""

    subnets: tuple[str, ...]
    until: datetime | UnsetType = UNSET
    """Left out: as long as the operator's setting says."""


class AllowListOut(msgspec.Struct, frozen=True, kw_only=True):
    """The imported list of a configuration."""

    subnets: tuple[str, ...]
    in_force: bool
    until: datetime | UnsetType = UNSET


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration did, or would do."""

    dry_run: bool
    migration: Migration


def _shown(configuration: Configuration) -> AllowListOut:
    return AllowListOut(
        subnets=configuration.allowed_addresses,
        in_force=bool(allow_list.in_force(configuration, now())),
        until=configuration.allowed_until or UNSET,
    )


@get(ONE, tags=["context-based restrictions"])
async def get_allow_list(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> AllowListOut:
    """Return the imported list of allowed addresses of a configuration; deprecated, rules are what counts."""
    return _shown(configuration_of(desk.directory, caller_of(request), instance_id, configuration_id))


@put(ONE, tags=["context-based restrictions"])
async def import_allow_list(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[AllowListIn],
) -> AllowListOut:
    """Import the list a configuration had elsewhere; it admits besides the rules until its date. Operators only."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    caller.needs_operator("import lists of allowed addresses")
    until = None if data.until is UNSET else data.until
    return _shown(await desk.allow_lists.replace(caller, found, data.subnets, until))


@post(INSTANCE + "/allowed_addresses/migrate", status_code=200, tags=["context-based restrictions"])
async def migrate_allow_lists(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    dry_run: Annotated[bool, QueryParameter(description="only say what would be done")] = False,
) -> Migrated:
    """Turn the imported lists of an instance into zones its rules let in; may be repeated."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id, write=True)
    if dry_run:
        return Migrated(dry_run=True, migration=desk.allow_lists.plan(instance_id))
    return Migrated(dry_run=False, migration=await desk.allow_lists.migrate(caller, instance_id))


HANDLERS = [get_allow_list, import_allow_list, migrate_allow_lists]
