"""What IBM does not have of SMTP users: their passwords with the last use of each, and their guard rails."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import delete, get, patch
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Meta, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk, UserId
from services.control.api.users import found_user
from services.control.core.guard_rails import GuardRails, guard_rails_of
from shared.bus.kv import Bucket
from shared.contract.records import Configuration, Password, StagingMode, User
from shared.contract.siblings import PasswordUse
from shared.runtime.clock import now

PATH = "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/users/{user_id:str}"


class LastUse(msgspec.Struct, frozen=True, kw_only=True):
    """The last use of a password, as of a minute ago."""

    at: datetime
    address: str
    banner: str
    """The name the client gave in EHLO."""


class PasswordOut(msgspec.Struct, frozen=True, kw_only=True):
    """A password; neither it nor its hash is ever shown."""

    id: str
    created_at: datetime
    works: bool
    hash: Literal["current", "outdated"]
    """Outdated: made before the parameters of Argon2id were changed; the next rotation makes a current one."""
    expires_at: datetime | UnsetType = UNSET
    last_use: LastUse | UnsetType = UNSET


class PasswordList(msgspec.Struct, frozen=True, kw_only=True):
    """The passwords of a user, oldest first."""

    username: str
    passwords: tuple[PasswordOut, ...]


class Expire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a password ends."""

    expires_at: datetime | None
    """Null: not by itself."""


class GuardRailsOut(msgspec.Struct, frozen=True, kw_only=True):
    """A user with its guard rails."""

    id: str
    username: str
    domain: str
    description: str
    passwords: int
    """How many work now."""
    guard_rails: GuardRails
    created_at: datetime
    updated_at: datetime


class GuardRailsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Guard rails to change; what is left out stays, an empty list or 0 lifts a limit."""

    senders: tuple[str, ...] | UnsetType = UNSET
    """Addresses or patterns such as `orders-*@shop.example`, for MAIL FROM and the header From."""
    networks: tuple[str, ...] | UnsetType = UNSET
    """Networks the user may come from, besides what the rules of the instance admit."""
    recipients: tuple[str, ...] | UnsetType = UNSET
    messages_per_hour: Annotated[int, Meta(ge=0, le=1_000_000_000)] | UnsetType = UNSET
    staging: StagingMode | UnsetType = UNSET
    redirect_to: str | UnsetType = UNSET
    staging_allowed: tuple[str, ...] | UnsetType = UNSET


def _shown(user: User, configuration: Configuration) -> GuardRailsOut:
    at = now()
    return GuardRailsOut(
        id=user.id,
        username=user.username,
        domain=configuration.domain,
        description=user.description,
        passwords=sum(_works(password, at) for password in user.passwords),
        guard_rails=guard_rails_of(user),
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


def _works(password: Password, at: datetime) -> bool:
    return password.expires_at is None or password.expires_at > at


@get(PATH, tags=["smtp users"])
async def get_guard_rails(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, user_id: UserId
) -> GuardRailsOut:
    """Return a user with its guard rails."""
    return _shown(*found_user(desk, caller_of(request), instance_id, configuration_id, user_id))


@patch(PATH, tags=["smtp users"])
async def set_guard_rails(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    user_id: UserId,
    data: JSONBody[GuardRailsIn],
) -> GuardRailsOut:
    """Change the guard rails of a user; in force within a second, in open sessions from the next MAIL."""
    caller = caller_of(request)
    user, configuration = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    given: dict[str, Any] = {name: getattr(data, name) for name in data.__struct_fields__}
    changes = {name: value for name, value in given.items() if value is not UNSET}
    return _shown(await desk.users.limit(caller, user, configuration.domain, changes), configuration)


@get(PATH + "/passwords", tags=["smtp users"])
async def list_passwords(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, user_id: UserId
) -> PasswordList:
    """List the passwords of a user with the last use of each."""
    user, _ = found_user(desk, caller_of(request), instance_id, configuration_id, user_id)
    return await _listed(desk, user)


async def _listed(desk: Desk, user: User) -> PasswordList:
    bucket: Bucket[PasswordUse] = Bucket(desk.bus, "usage", PasswordUse)
    keys = [f"{user.configuration}.{user.id}.{password.id}" for password in user.passwords]
    uses = await asyncio.gather(*(bucket.get(key) for key in keys))
    at = now()
    shown = tuple(
        PasswordOut(
            id=password.id,
            created_at=password.created_at,
            works=_works(password, at),
            hash="outdated" if desk.workshop.outdated(password.hash) else "current",
            expires_at=password.expires_at or UNSET,
            last_use=LastUse(at=use.record.at, address=use.record.address, banner=use.record.banner) if use else UNSET,
        )
        for password, use in zip(user.passwords, uses, strict=True)
    )
    return PasswordList(username=user.username, passwords=shown)


@patch(PATH + "/passwords/{password_id:str}", tags=["smtp users"])
async def expire_password(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    user_id: UserId,
    password_id: FromPath[str],
    data: JSONBody[Expire],
) -> PasswordList:
    """Set when a password ends, also of the user's clones: sooner, later, or not by itself."""
    caller = caller_of(request)
    user, _ = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    await desk.users.expire(caller, user, password_id, data.expires_at)
    changed, _ = found_user(desk, caller, instance_id, configuration_id, user_id)
    return await _listed(desk, changed)


@delete(PATH + "/passwords/{password_id:str}", tags=["smtp users"])
async def revoke_password(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    user_id: UserId,
    password_id: FromPath[str],
) -> None:
    """End one password at once, also of the user's clones; the last one that works stays."""
    caller = caller_of(request)
    user, _ = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    await desk.users.revoke(caller, user, password_id)


HANDLERS = [get_guard_rails, set_guard_rails, list_passwords, expire_password, revoke_password]
