"""Who calls, and what they may: operators everything, managers and readers their own instance."""

from typing import TypeVar

import msgspec

from services.control.directory import Directory
from services.control.refusal import forbidden, unknown
from shared.contract.records import Configuration, Instance, Role, Rule, Zone

T = TypeVar("T", Configuration, Zone, Rule)


class Caller(msgspec.Struct, frozen=True):
    """An authenticated API key."""

    key: str
    role: Role
    instance: str | None

    @property
    def name(self) -> str:
        """How the audit log names the caller."""
        return f"key:{self.key}"

    @property
    def is_operator(self) -> bool:
        """Whether the caller administers the whole system."""
        return self.role == "operator"

    @property
    def instances(self) -> tuple[str, ...] | None:
        """The instances the caller may see, None for all."""
        return None if self.is_operator else (self.instance or "",)

    def needs_operator(self, act: str) -> None:
        """Refuse everybody but operators.

        Errors: `Refused` (403).
        """
        if not self.is_operator:
            raise forbidden(f"only an operator may {act}; this key has the role {self.role}")

    def needs_write(self) -> None:
        """Refuse readers.

        Errors: `Refused` (403).
        """
        if self.role == "reader":
            raise forbidden("this key may only read; use a key with the role manager")

    def reaches(self, instance: str) -> bool:
        """Whether an instance is the caller's to see."""
        return self.is_operator or self.instance == instance


def instance_of(directory: Directory, caller: Caller, instance_id: str, *, write: bool = False) -> Instance:
    """Return an instance the caller may reach.

    Errors: `Refused`: 404 if it is unknown or another's, 403 if the caller may only read.
    """
    found = directory.get(f"instance.{instance_id}", Instance) if caller.reaches(instance_id) else None
    if found is None:
        raise unknown("instance", instance_id)
    if write:
        caller.needs_write()
    return found


def configuration_of(
    directory: Directory, caller: Caller, instance_id: str, configuration_id: str, *, write: bool = False
) -> Configuration:
    """Return a configuration of an instance the caller may reach.

    Errors: `Refused`: 404 if either is unknown or another's, 403 if the caller may only read.
    """
    instance_of(directory, caller, instance_id, write=write)
    found = directory.get(f"configuration.{configuration_id}", Configuration)
    if found is None or found.instance != instance_id:
        raise unknown("configuration", configuration_id)
    return found


def found_by_id(
    directory: Directory, caller: Caller, kind: type[T], word: str, identity: str, *, write: bool = False
) -> T:
    """Return a record that is asked for by its ID alone, if the caller may reach its instance.

    Errors: `Refused`: 404 if it is unknown or another instance's, 403 if the caller may only read.
    """
    found = directory.get(f"{word}.{identity}", kind)
    if found is None or not caller.reaches(found.instance):
        raise unknown(word, identity)
    if write:
        caller.needs_write()
    return found
