"""What `postlane apply` is asked for: a file of instances with their zones, rules and domains, and how it differs.

Only what the file names is looked at; nothing is ever removed. Decisions only: `apply.py` asks and changes.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

EXAMPLE = """\
[instances.acme.zones.office]
addresses = ["203.0.113.0/24", "2001:db8::/48"]

[instances.acme.rules.office]        # a rule is known by its name, which becomes its description
zones = ["office"]

[instances.acme.domains."example.com"]
questionnaire = "answers.toml"       # beside this file; `postlane domain authorize --example` prints one
quota = { messages_per_hour = 10000 } # operators only: approves sending
html_policy = "warn"

[instances.acme.domains."example.com".users.jira]   # a user is known by its description
networks = ["203.0.113.0/24"]
"""


class _Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; what is left out stays as it is."""

    def named(self, *apart: str) -> dict[str, Any]:
        """Return what the file says, as the API takes it, without the fields named."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__struct_fields__
            if name not in apart and (value := getattr(self, name)) is not UNSET
        }


class ZoneWish(_Wish, frozen=True, kw_only=True):
    """A zone, under its name."""

    addresses: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    description: str = ""


class RuleWish(_Wish, frozen=True, kw_only=True):
    """A rule, under the description it is known by."""

    zones: tuple[str, ...]
    endpoints: tuple[Literal["public", "private"], ...] = ()
    enforcement: Literal["enabled", "report", "disabled"] = "enabled"


class UserWish(_Wish, frozen=True, kw_only=True):
    """A user, under the description it is known by, with its guard rails."""

    senders: tuple[str, ...] | UnsetType = UNSET
    networks: tuple[str, ...] | UnsetType = UNSET
    recipients: tuple[str, ...] | UnsetType = UNSET
    messages_per_hour: int | UnsetType = UNSET
    staging: Literal["deliver", "capture", "redirect", "allow-list", "simulate"] | UnsetType = UNSET
    redirect_to: str | UnsetType = UNSET
    staging_allowed: tuple[str, ...] | UnsetType = UNSET


class QuotaWish(_Wish, frozen=True, kw_only=True):
    """An operator's approval."""

    lane: Literal["transactional", "marketing"] | UnsetType = UNSET
    messages_per_second: int = 0
    messages_per_hour: int = 0
    messages_per_day: int = 0
    recipients_per_message: int = 0
    message_bytes: int = 0


class DomainWish(_Wish, frozen=True, kw_only=True):
    """A sender domain, under its name."""

    questionnaire: str | UnsetType = UNSET
    quota: QuotaWish | UnsetType = UNSET
    users: dict[str, UserWish] = {}
    when_suspended: Literal["hold", "refuse"] | UnsetType = UNSET
    hold_cap: int | UnsetType = UNSET
    lifetime_seconds: int | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    attachments_allowed: bool | UnsetType = UNSET
    repeats: Literal["off", "header", "content"] | UnsetType = UNSET
    html_policy: Literal["off", "warn", "refuse"] | UnsetType = UNSET
    unsubscribe_policy: Literal["off", "warn", "refuse"] | UnsetType = UNSET
    spam_policy: Literal["off", "warn", "refuse"] | UnsetType = UNSET
    at_most_once: bool | UnsetType = UNSET
    egress_pool: str | UnsetType = UNSET

    @property
    def preferences(self) -> dict[str, Any]:
        """What is written to the configuration itself."""
        return self.named("questionnaire", "quota", "users")


class InstanceWish(_Wish, frozen=True, kw_only=True):
    """A tenant, under its name."""

    zones: dict[str, ZoneWish] = {}
    rules: dict[str, RuleWish] = {}
    domains: dict[str, DomainWish] = {}


class Wishes(_Wish, frozen=True, kw_only=True):
    """The whole file."""

    instances: dict[str, InstanceWish]


class Change(msgspec.Struct, frozen=True):
    """One thing to do: `+` is new, `~` is changed; `details` says how."""

    sign: Literal["+", "~"]
    what: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the line a person reads."""
        return f"{self.sign} {self.what}" + (f": {', '.join(self.details)}" if self.details else "")


def read(text: str) -> Wishes:
    """Return the wishes of a TOML file.

    Errors: `msgspec.MsgspecError`, `tomllib.TOMLDecodeError` name the place.
    """
    return msgspec.toml.decode(text, type=Wishes)


def difference(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of `wanted` is otherwise at present, one clause each; a field nobody has set is empty."""
    return tuple(
        f"{name} {_shown(present.get(name))} → {_shown(value)}"
        for name, value in wanted.items()
        if not _same(value, present.get(name))
    )


def _same(wanted: Any, present: Any) -> bool:
    if isinstance(wanted, list) and isinstance(present, list | tuple):
        return sorted(map(str, wanted)) == sorted(map(str, present))
    return bool(wanted == present or (not wanted and not present and wanted is not False))


def _shown(value: Any) -> str:
    if value in (None, "", []):
        return "nothing"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
