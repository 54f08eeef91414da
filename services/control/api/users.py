"""IBM's operations on SMTP users."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import delete, get, patch, post
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, Link, base_url
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, Limit, Offset, Search, TheDesk, UserId
from services.control.caller import Caller, configuration_of
from services.control.core import paging
from services.control.refusal import bad_request, unknown
from shared.contract.records import Configuration, User

PATH = "/v1/instances/{instance_id:str}/smtp/config/{configuration_id:str}/users"


class CreateUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user to create; username and password are made here."""

    description: str = ""


class UpdateUser(msgspec.Struct, frozen=True, kw_only=True):
    """What may change of a user."""

    description: str | UnsetType = UNSET


class NewSmtpUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user just created: the only time its password is shown. A clone has the password of its original."""

    id: str
    smtp_config_id: str
    description: str
    domain: str
    username: str
    created_at: datetime
    password: str | UnsetType = UNSET


class SmtpUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user."""

    id: str
    smtp_config_id: str
    description: str
    domain: str
    username: str
    created_at: datetime
    updated_at: datetime


class UsersList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users."""

    total_count: int
    offset: int
    limit: int
    users: tuple[SmtpUser, ...]
    first: Link
    previous: Link | UnsetType = UNSET
    next: Link | UnsetType = UNSET


class Rotate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to rotate."""

    keep_seconds: Annotated[int, Meta(ge=0, le=365 * 86_400)] | UnsetType = UNSET
    """How long the present password goes on working; 0: not at all."""


class Rotated(msgspec.Struct, frozen=True, kw_only=True):
    """The new password: the only time it is shown."""

    id: str
    username: str
    password: str
    old_password_ends_at: datetime | UnsetType = UNSET


def shown(user: User, configuration: Configuration) -> SmtpUser:
    """Return a user in IBM's shape."""
    return SmtpUser(
        id=user.id,
        smtp_config_id=user.configuration,
        description=user.description,
        domain=configuration.domain,
        username=user.username,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )


def found_user(
    desk: Desk, caller: Caller, instance_id: str, configuration_id: str, user_id: str, *, write: bool = False
) -> tuple[User, Configuration]:
    """Return a user the caller may reach, with its configuration.

    Errors: `Refused`: 404 if it is unknown or another's, 403 if the caller may only read.
    """
    configuration = configuration_of(desk.directory, caller, instance_id, configuration_id, write=write)
    user = desk.directory.get(f"user.{configuration_id}.{user_id}", User)
    if user is None:
        raise unknown("user", user_id)
    return user, configuration


@post(PATH, tags=["smtp users"])
async def create_user(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[CreateUser | None] = None,
    username_to_clone: Annotated[
        str | None, QueryParameter(description="a user of another configuration of the instance")
    ] = None,
) -> NewSmtpUser:
    """Create a user, or clone one; at most five per configuration."""
    caller = caller_of(request)
    configuration = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    description = data.description if data else ""
    user, password = await desk.users.create(caller, configuration, description, username_to_clone)
    return NewSmtpUser(
        id=user.id,
        smtp_config_id=user.configuration,
        description=user.description,
        domain=configuration.domain,
        username=user.username,
        created_at=user.created_at,
        password=password if password is not None else UNSET,
    )


@get(PATH, tags=["smtp users"])
async def list_users(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    limit: Limit = 10,
    offset: Offset = 0,
    search: Search = "",
) -> UsersList:
    """List the users of a configuration, oldest first."""
    configuration = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    if faults := paging.paging_faults(limit, offset, search):
        raise bad_request(*faults)
    users = sorted(desk.directory.all(f"user.{configuration_id}.", User), key=lambda user: (user.created_at, user.id))
    page = paging.page([(user, (user.username, user.description)) for user in users], limit, offset, search)
    base = f"{base_url(request, desk)}/v1/instances/{instance_id}/smtp/config/{configuration_id}/users"
    return UsersList(
        total_count=page.total,
        offset=offset,
        limit=limit,
        users=tuple(shown(user, configuration) for user in page.items),
        first=Link(href=page.link(base, 0, search)),
        previous=UNSET if page.previous is None else Link(href=page.link(base, page.previous, search)),
        next=UNSET if page.next is None else Link(href=page.link(base, page.next, search)),
    )


@get(PATH + "/{user_id:str}", tags=["smtp users"])
async def get_user(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, user_id: UserId
) -> SmtpUser:
    """Return a user, never its password."""
    return shown(*found_user(desk, caller_of(request), instance_id, configuration_id, user_id))


@patch(PATH + "/{user_id:str}", tags=["smtp users"])
async def update_user(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    user_id: UserId,
    data: JSONBody[UpdateUser],
) -> SmtpUser:
    """Change the description of a user."""
    caller = caller_of(request)
    user, configuration = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    if data.description is not UNSET:
        user = await desk.users.describe(caller, user, data.description)
    return shown(user, configuration)


@delete(PATH + "/{user_id:str}", tags=["smtp users"])
async def delete_user(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, user_id: UserId
) -> None:
    """Remove a user; its credentials end within a second."""
    caller = caller_of(request)
    user, _ = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    await desk.users.remove(caller, user)


@post(
    "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/users/{user_id:str}/rotate",
    status_code=200,
    tags=["smtp users"],
)
async def rotate_user(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    user_id: UserId,
    data: JSONBody[Rotate],
) -> Rotated:
    """Make a second password, shown this once; the present one goes on working for a while. Clones get it too."""
    caller = caller_of(request)
    user, _ = found_user(desk, caller, instance_id, configuration_id, user_id, write=True)
    keep = None if data.keep_seconds is UNSET else data.keep_seconds
    password, changed = await desk.users.rotate(caller, user, keep)
    ends = [each.expires_at for each in changed.passwords if each.expires_at is not None]
    return Rotated(
        id=user.id, username=user.username, password=password, old_password_ends_at=max(ends) if ends else UNSET
    )


HANDLERS = [create_user, list_users, get_user, update_user, delete_user, rotate_user]
