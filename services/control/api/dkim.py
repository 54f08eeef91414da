"""Signing keys of a configuration: rotation, a second key, and the operator's zone of delegated keys."""

from datetime import datetime

import msgspec
from litestar import delete, get, post
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, verify_now
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.api.records import last_seen
from services.control.caller import configuration_of
from services.control.core.record_advice import RecordAdvice
from services.control.core.rotation import ZoneKey, seen
from services.control.refusal import Refused
from shared.contract.errors import RequestFailed
from shared.contract.records import Configuration
from shared.contract.standing import Standing

ONE = "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/dkim"


class Rotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate."""

    finish_when_seen: bool = False
    """Give up the old key by itself, once the next one is in DNS."""
    force: bool = False
    """Use the spare selector of a delegated domain although an older key is still published there."""


class SigningState(msgspec.Struct, frozen=True, kw_only=True):
    """The signing keys of a configuration."""

    domain: str
    selector: str
    """Of the key in use."""
    records: tuple[RecordAdvice, ...]
    """What is to be published, and what was last seen."""
    delegated_to: str | UnsetType = UNSET
    next_selector: str | UnsetType = UNSET
    """A rotation is under way."""
    next_seen: bool = False
    """The next key was seen in DNS: mail is signed with it, and the rotation may be finished."""
    finish_when_seen: bool = False
    retired_selector: str | UnsetType = UNSET
    retired_at: datetime | UnsetType = UNSET
    ed25519_selector: str | UnsetType = UNSET


class ZoneOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator's zone must publish."""

    zone: str
    keys: tuple[ZoneKey, ...]


def _state(desk: Desk, configuration: Configuration, standing: Standing | None = None) -> SigningState:
    retired, ed25519, coming = configuration.retired_key, configuration.ed25519_key, configuration.next_key
    known = standing or desk.directory.standings.get(configuration.id)
    return SigningState(
        domain=configuration.domain,
        selector=configuration.selector,
        records=tuple(each for each in last_seen(desk, configuration) if each.kind.startswith("dkim")),
        delegated_to=configuration.dkim_zone or UNSET,
        next_selector=coming.selector if coming else UNSET,
        next_seen=seen(configuration, known),
        finish_when_seen=configuration.finish_when_seen,
        retired_selector=retired.selector if retired else UNSET,
        retired_at=retired.since if retired else UNSET,
        ed25519_selector=ed25519.selector if ed25519 else UNSET,
    )


@get(ONE, tags=["signing keys"])
async def get_signing_keys(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SigningState:
    """Return which keys sign, and what is to be published."""
    return _state(desk, configuration_of(desk.directory, caller_of(request), instance_id, configuration_id))


@post(ONE + "/rotate", status_code=200, tags=["signing keys"])
async def rotate_key(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[Rotate | None] = None,
) -> SigningState:
    """Make the next key; it is used once it is in DNS, and the old one stays good until the rotation is finished."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    wish = data or Rotate()
    after = await desk.signing_keys.begin(caller, found, by_itself=wish.finish_when_seen, force=wish.force)
    return _state(desk, after)


@post(ONE + "/finish", status_code=200, tags=["signing keys"])
async def finish_rotation(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SigningState:
    """Give up the old key; refused until the next one was seen in DNS."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    try:
        standing: Standing | None = await verify_now(desk, found)
    except (Refused, RequestFailed):  # what was last seen decides
        standing = desk.directory.standings.get(found.id)
    return _state(desk, await desk.signing_keys.finish(caller, found, standing))


@post(ONE + "/cancel", status_code=200, tags=["signing keys"])
async def cancel_rotation(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SigningState:
    """Give up the next key; the one in use stays."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    return _state(desk, await desk.signing_keys.cancel(caller, found))


@post(ONE + "/ed25519", status_code=201, tags=["signing keys"])
async def add_ed25519_key(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SigningState:
    """Make a second signing key (Ed25519), to be published beside the first."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    return _state(desk, await desk.signing_keys.add_ed25519(caller, found))


@delete(ONE + "/ed25519", status_code=200, tags=["signing keys"])
async def remove_ed25519_key(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> SigningState:
    """Stop signing with the second key."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    return _state(desk, await desk.signing_keys.remove_ed25519(caller, found))


@get("/v1/postlane/dkim-zone", tags=["signing keys"])
async def get_dkim_zone(request: Http, desk: TheDesk) -> ZoneOut:
    """Return every key the operator's zone must publish for delegated domains. Operators only."""
    caller_of(request).needs_operator("see the zone of delegated keys")
    return ZoneOut(zone=desk.settings.dkim_zone, keys=desk.signing_keys.zone())


HANDLERS = [
    get_signing_keys,
    rotate_key,
    finish_rotation,
    cancel_rotation,
    add_ed25519_key,
    remove_ed25519_key,
    get_dkim_zone,
]
