"""Who calls, where applications send to, and whether control is alive."""

import msgspec
from litestar import get
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.parameters import InstanceId, TheDesk
from services.control.caller import instance_of
from services.control.core.endpoints import Endpoint, may_be_reached, parse_endpoints
from services.control.refusal import unavailable
from shared.contract.records import Role


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """The caller."""

    key: str
    role: Role
    instance: str | UnsetType = UNSET


class EndpointList(msgspec.Struct, frozen=True, kw_only=True):
    """Where applications send to."""

    endpoints: tuple[Endpoint, ...]
    spf_include: str


class InstanceEndpoints(EndpointList, frozen=True, kw_only=True):
    """Where an instance's applications send to."""

    public_open: bool
    """Whether the rules of the instance let somebody in by the public endpoints."""
    private_open: bool


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of a living process."""

    alive: bool = True


@get("/v1/postlane/self", tags=["keys"])
async def get_self(request: Http) -> Self:
    """Return whose key the request showed."""
    caller = caller_of(request)
    return Self(key=caller.key, role=caller.role, instance=caller.instance or UNSET)


@get("/v1/postlane/endpoints", tags=["endpoints"])
async def list_endpoints(desk: TheDesk) -> EndpointList:
    """Return regions, public and private endpoints, and the addresses mail leaves from."""
    return EndpointList(endpoints=parse_endpoints(desk.settings.endpoints), spf_include=desk.settings.spf_include)


@get("/v1/postlane/instances/{instance_id:str}/endpoints", tags=["endpoints"])
async def list_instance_endpoints(request: Http, desk: TheDesk, instance_id: InstanceId) -> InstanceEndpoints:
    """Return the endpoints, and whether the instance's rules let anybody in by the public and by the private ones."""
    instance_of(desk.directory, caller_of(request), instance_id)
    rules, zones = desk.networks.rules(instance_id), desk.networks.zones(instance_id)
    return InstanceEndpoints(
        endpoints=parse_endpoints(desk.settings.endpoints),
        spf_include=desk.settings.spf_include,
        public_open=may_be_reached(rules, zones, "public"),
        private_open=may_be_reached(rules, zones, "private"),
    )


@get("/healthz", opt={"open": True}, include_in_schema=False)
async def healthz() -> Alive:
    """Answer as long as the process lives."""
    return Alive()


@get("/readyz", opt={"open": True}, include_in_schema=False)
async def readyz(desk: TheDesk) -> Alive:
    """Answer 200 while the bus can be reached, else 503."""
    if not desk.bus.connected:
        raise unavailable("the bus cannot be reached")
    return Alive()


HANDLERS = [get_self, list_endpoints, list_instance_endpoints, healthz, readyz]
