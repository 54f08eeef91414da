"""Tenants: the instances that a caller may see, and new ones."""

import uuid
from datetime import datetime

import msgspec
from litestar import get, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.parameters import InstanceId, TheDesk
from services.control.caller import instance_of
from services.control.core.fault import Fault, text_fault
from services.control.refusal import bad_request
from shared.contract.records import Configuration, Instance
from shared.runtime.clock import now

PATH = "/v1/postlane/instances"
ONE = PATH + "/{instance_id:str}"
INSTANCE_NAME_LENGTH = 250


class CreateInstance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to create."""

    name: str
    id: str | UnsetType = UNSET
    """A GUID of the operator's choice."""


class InstanceOut(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    id: str
    name: str
    created_at: datetime
    configurations: int


class InstanceList(msgspec.Struct, frozen=True, kw_only=True):
    """The tenants the caller may see."""

    instances: tuple[InstanceOut, ...]


def _instance_out(desk: Desk, instance: Instance) -> InstanceOut:
    count = sum(1 for c in desk.directory.all("configuration.", Configuration) if c.instance == instance.id)
    return InstanceOut(id=instance.id, name=instance.name, created_at=instance.created_at, configurations=count)


@post(PATH, tags=["tenants"])
async def create_instance(request: Http, desk: TheDesk, data: JSONBody[CreateInstance]) -> InstanceOut:
    """Create a tenant. Operators only."""
    caller = caller_of(request)
    caller.needs_operator("create instances")
    if faults := text_fault("name", data.name, 1, INSTANCE_NAME_LENGTH):
        raise bad_request(*faults)
    identity = str(uuid.uuid4())
    if data.id is not UNSET:
        try:
            identity = str(uuid.UUID(data.id))
        except ValueError:
            raise bad_request(
                Fault("invalid_id", "id must be a GUID, such as 5d6a0b6e-0f4e-4c8b-9a55-0b6d7c1f2e3d", "id")
            ) from None
    instance = Instance(id=identity, name=data.name, created_at=now())
    await desk.directory.create(f"instance.{instance.id}", instance, caller.name, instance.id)
    return _instance_out(desk, instance)


@get(PATH, tags=["tenants"])
async def list_instances(request: Http, desk: TheDesk) -> InstanceList:
    """List the tenants the caller may see."""
    caller = caller_of(request)
    found = [each for each in desk.directory.all("instance.", Instance) if caller.reaches(each.id)]
    found.sort(key=lambda each: (each.created_at, each.id))
    return InstanceList(instances=tuple(_instance_out(desk, each) for each in found))


@get(ONE, tags=["tenants"])
async def get_instance(request: Http, desk: TheDesk, instance_id: InstanceId) -> InstanceOut:
    """Return a tenant."""
    return _instance_out(desk, instance_of(desk.directory, caller_of(request), instance_id))


HANDLERS = [create_instance, list_instances, get_instance]
