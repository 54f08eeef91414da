"""SMTP users: generated credentials, at most five per configuration, clones within an instance."""

import secrets
import uuid

import msgspec

from services.control.caller import Caller
from services.control.core import credentials
from services.control.core.fault import Fault, text_fault
from services.control.directory import Directory
from services.control.refusal import bad_request, unknown
from services.control.settings import ControlSettings
from services.control.workshop import Workshop
from shared.contract.records import Configuration, Password, User
from shared.runtime.clock import now

DESCRIPTION_LENGTH = 250


class Users:
    """Creates, changes and removes users."""

    def __init__(self, directory: Directory, workshop: Workshop, settings: ControlSettings) -> None:
        self._directory = directory
        self._workshop = workshop
        self._most = settings.users_per_configuration

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

        found = await self._directory.change(
            f"user.{user.configuration}.{user.id}", User, edited, caller.name, user.instance
        )
        if found is None:
            raise unknown("user", user.id)
        return found[0]

    async def remove(self, caller: Caller, user: User) -> None:
        """Remove a user; its credentials end within a second."""
        await self._directory.delete(f"user.{user.configuration}.{user.id}", caller.name, user.instance)
        await self._directory.leave_seat(f"roster.users.{user.configuration}", f"user.{user.configuration}.{user.id}")
