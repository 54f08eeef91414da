"""SMTP users: generated credentials, at most five per configuration, clones within an instance."""

import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from services.control.caller import Caller
from services.control.core import credentials, guard_rails
from services.control.core.fault import Fault, text_fault
from services.control.core.guard_rails import GuardRails
from services.control.directory import Directory
from services.control.refusal import bad_request, conflict, unknown
from services.control.settings import ControlSettings
from services.control.workshop import Workshop
from shared.contract.records import Configuration, Password, User
from shared.runtime.clock import now

DESCRIPTION_LENGTH = 250
LIVE_PASSWORDS = 2
"""Passwords of a user that work at the same time, so that a client can be changed without an interruption."""


class Users:
    """Creates, changes and removes users."""

    def __init__(self, directory: Directory, workshop: Workshop, settings: ControlSettings) -> None:
        self._directory = directory
        self._workshop = workshop
        self._most = settings.users_per_configuration
        self._keep = settings.rotation_seconds

    async def create(
        self, caller: Caller, configuration: Configuration, description: str, clone_of: str | None
    ) -> tuple[User, str | None]:
        """Create a user; return it with its password, which nobody can read again, or None for a clone.

        Errors: `Refused`: 400, 404 for an unknown user to clone, 409 for the sixth user or a second clone.
        """
        if faults := text_fault("description", description, 0, DESCRIPTION_LENGTH):
            raise bad_request(*faults)
        at = now()
        password: str | None = None
        if clone_of is not None:
            username, passwords = self._original(configuration, clone_of)
        else:
            username = credentials.new_username(secrets.token_bytes(credentials.USERNAME_RANDOM_BYTES))
            password = credentials.new_password(secrets.token_bytes(credentials.PASSWORD_RANDOM_BYTES))
            passwords = (
                Password(id=str(uuid.uuid4()), hash=await self._workshop.hash(password), created_at=at),
            )  # fmt: skip
        user = User(
            id=str(uuid.uuid4()),
            instance=configuration.instance,
            configuration=configuration.id,
            username=username,
            passwords=passwords,
            created_at=at,
            updated_at=at,
            description=description,
        )
        key, roster = f"user.{configuration.id}.{user.id}", f"roster.users.{configuration.id}"
        await self._directory.take_seat(
            roster,
            username,
            key,
            self._most,
            full=Fault(
                "too_many_users",
                f"a configuration has at most {self._most} users: remove one, or make another configuration",
            ),
            taken=Fault("user_exists", f"the user {username} is in this configuration already"),
        )
        await self._directory.create(key, user, caller.name, configuration.instance)
        return user, password

    def _original(self, configuration: Configuration, username: str) -> tuple[str, tuple[Password, ...]]:
        if not credentials.is_username(username):
            raise bad_request(
                Fault("invalid_username", "username_to_clone must have the form of a username", "username_to_clone")
            )
        for user in self._directory.all("user.", User):
            if user.instance == configuration.instance and user.username == username:
                return user.username, user.passwords
        raise unknown("user", username)

    async def describe(self, caller: Caller, user: User, description: str) -> User:
        """Change the description of a user.

        Errors: `Refused`: 400, 404.
        """
        if faults := text_fault("description", description, 0, DESCRIPTION_LENGTH):
            raise bad_request(*faults)

        def edited(present: User) -> User:
            if present.description == description:
                return present
            return msgspec.structs.replace(present, description=description, updated_at=now())

        return await self._edit(caller, user, edited)

    async def limit(self, caller: Caller, user: User, domain: str, changes: dict[str, object]) -> User:
        """Change a user's guard rails; what `changes` does not name stays. Clones have guard rails of their own.

        Errors: `Refused`: 400 with every fault, 404.
        """

        def limited(present: User) -> User:
            wish: GuardRails = msgspec.structs.replace(guard_rails.guard_rails_of(present), **changes)
            made, faults = guard_rails.checked(wish, domain)
            if faults:
                raise bad_request(*faults)
            after: User = msgspec.structs.replace(present, **msgspec.structs.asdict(made))
            return after if after == present else msgspec.structs.replace(after, updated_at=now())

        return await self._edit(caller, user, limited)

    async def expire(self, caller: Caller, user: User, password_id: str, ends: datetime | None) -> None:
        """Set when one password of a user and of its clones ends; None: not by itself.

        Errors: `Refused`: 400 for a time that has passed, 404 if it is not one of the user's, 409 if it has ended.
        """
        at = now()
        if ends is not None and (ends.tzinfo is None or ends <= at):
            raise bad_request(
                Fault("invalid_time", "expires_at is a time to come, with a time zone; revoke what is to end now",
                      "expires_at")
            )  # fmt: skip
        if all(password.id != password_id for password in user.passwords):
            raise unknown("password", password_id)

        def expiring(present: User) -> User:
            if all(password.id != password_id for password in _live(present, at)):
                raise conflict("password_ended", "the password has ended already: make another one by rotating")
            changed = tuple(
                msgspec.structs.replace(password, expires_at=ends) if password.id == password_id else password
                for password in present.passwords
            )
            if changed == present.passwords:
                return present
            return msgspec.structs.replace(present, passwords=changed, updated_at=at)

        for each in (user, *self._clones(user)):
            if any(password.id == password_id for password in each.passwords):
                await self._edit(caller, each, expiring)

    async def revoke(self, caller: Caller, user: User, password_id: str) -> None:
        """End one password of a user and of its clones at once.

        Errors: `Refused`: 404 if it is not one of the user's, 409 if it is the only one that works.
        """
        at = now()
        if all(password.id != password_id for password in user.passwords):
            raise unknown("password", password_id)

        def revoked(present: User) -> User:
            if [password.id for password in _live(present, at)] == [password_id]:
                raise conflict(
                    "last_password",
                    f"it is the only password of {present.username} that works: rotate first, or remove the user",
                )
            left = tuple(password for password in present.passwords if password.id != password_id)
            return msgspec.structs.replace(present, passwords=left, updated_at=at)

        await self._edit(caller, user, revoked)
        for clone in self._clones(user):
            if any(password.id == password_id for password in clone.passwords):
                await self._edit(caller, clone, revoked)

    async def rotate(self, caller: Caller, user: User, keep_seconds: int | None) -> tuple[str, User]:
        """Give a user, with its clones, a second password; the first one ends after a while. Return it, shown once.

        Errors: `Refused` (409) while two passwords live already: end the old one first.
        """
        at = now()
        until = at + timedelta(seconds=self._keep if keep_seconds is None else keep_seconds)
        password = credentials.new_password(secrets.token_bytes(credentials.PASSWORD_RANDOM_BYTES))
        fresh = Password(id=str(uuid.uuid4()), hash=await self._workshop.hash(password), created_at=at)

        def rotated(present: User) -> User:
            live = _live(present, at)
            if len(live) >= LIVE_PASSWORDS and until > at:
                first = min(p.expires_at or until for p in live)
                raise conflict(
                    "too_many_passwords",
                    f"{present.username} has {LIVE_PASSWORDS} passwords that work, the older one ends at "
                    f"{first:%Y-%m-%d %H:%M:%S} UTC; to end one now, revoke it; to end both, rotate without keeping",
                )
            ending = tuple(
                msgspec.structs.replace(p, expires_at=min(until, p.expires_at or until)) for p in live if until > at
            )
            return msgspec.structs.replace(present, passwords=(*ending, fresh), updated_at=at)

        changed = await self._edit(caller, user, rotated)
        for clone in self._clones(user):
            await self._edit(caller, clone, rotated)
        return password, changed

    def _clones(self, user: User) -> list[User]:
        """Return the other users of the same name, which have the same passwords."""
        return [
            clone
            for clone in self._directory.all("user.", User)
            if clone.username == user.username and clone.instance == user.instance and clone.id != user.id
        ]

    async def _edit(self, caller: Caller, user: User, edit: Callable[[User], User]) -> User:
        key = f"user.{user.configuration}.{user.id}"
        found = await self._directory.change(key, User, edit, caller.name, user.instance)
        if found is None:
            raise unknown("user", user.id)
        return found[0]

    async def remove(self, caller: Caller, user: User) -> None:
        """Remove a user; its credentials end within a second."""
        await self._directory.delete(f"user.{user.configuration}.{user.id}", caller.name, user.instance)
        await self._directory.leave_seat(f"roster.users.{user.configuration}", f"user.{user.configuration}.{user.id}")


def _live(user: User, at: datetime) -> list[Password]:
    return [p for p in user.passwords if p.expires_at is None or p.expires_at > at]
