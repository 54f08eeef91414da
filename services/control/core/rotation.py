"""Replacing a signing key while mail flows: two keys live, and the old one goes only when the new one was seen.

A domain of its own publishes the next key itself; a delegated one has two selectors with a CNAME each, which take
turns, so that only the operator's zone changes.
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from services.control.core.fault import Fault
from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Observation, Standing

KeyUse = Literal["current", "next", "retired", "ed25519"]


class ZoneKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that the operator's zone publishes for a delegated domain."""

    name: str
    """Without the trailing dot."""
    value: str
    domain: str
    use: KeyUse


def begun(configuration: Configuration, key: PublishedKey, *, by_itself: bool, now: datetime) -> Configuration:
    """Return a configuration with a rotation to `key` under way."""
    return msgspec.structs.replace(configuration, next_key=key, finish_when_seen=by_itself, updated_at=now)


def begin_fault(configuration: Configuration, now: datetime, retirement: timedelta, *, force: bool) -> Fault | None:
    """Return why a rotation cannot begin now, None if it can."""
    if configuration.next_key is not None:
        return Fault(
            "rotation_under_way",
            f"a rotation to the selector {configuration.next_key.selector} is under way: finish or cancel it first",
        )
    retired = configuration.retired_key
    if retired is None or force or configuration.spare_selector != retired.selector:
        return None
    until = retired.since + retirement
    if now >= until:
        return None
    return Fault(
        "key_still_published",
        f"the key before the last rotation stays published until {until:%Y-%m-%d %H:%M} UTC, for mail that is under "
        "way, and its selector is needed for the next one: wait, or force it if the key in use was lost to somebody",
    )


def seen(configuration: Configuration, standing: Standing | None) -> bool:
    """Whether the verifier found the next key published at its own name."""
    key, found = configuration.next_key, standing.next_dkim if standing else None
    if key is None or found is None:
        return False
    return found.verdict == "pass" and found.name == name_of(configuration, key) and found.at >= key.since


def unseen_fault(configuration: Configuration, found: Observation | None) -> Fault:
    """Return why a rotation cannot be finished yet."""
    key = configuration.next_key
    if key is None:
        return Fault("no_rotation", "no rotation is under way: begin one first")
    why = found.detail if found is not None and found.name == name_of(configuration, key) else "It was not seen yet."
    return Fault("next_key_not_seen", f"the next key must be in DNS before the old one is given up. {why}")


def finished(configuration: Configuration, now: datetime) -> Configuration:
    """Return a configuration whose next key is the one in use; the old one is retired from now on."""
    key = configuration.next_key
    if key is None:
        return configuration
    old = PublishedKey(selector=configuration.selector, value=configuration.dkim_value, since=now)
    return msgspec.structs.replace(
        configuration,
        selector=key.selector,
        dkim_value=key.value,
        spare_selector=old.selector if configuration.dkim_zone else "",
        next_key=None,
        finish_when_seen=False,
        retired_key=old,
        updated_at=now,
    )


def name_of(configuration: Configuration, key: PublishedKey) -> str:
    """Return the name a key is looked for at."""
    return f"{key.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1


def zone_keys(configuration: Configuration, now: datetime, retirement: timedelta) -> tuple[ZoneKey, ...]:
    """Return what the operator's zone must publish for a delegated configuration."""
    if not configuration.dkim_zone:
        return ()
    published: list[tuple[KeyUse, str, str]] = [("current", configuration.selector, configuration.dkim_value)]
    if configuration.next_key is not None:
        published.append(("next", configuration.next_key.selector, configuration.next_key.value))
    retired = configuration.retired_key
    taken = {selector for _, selector, _ in published}
    if retired is not None and retired.selector not in taken and now < retired.since + retirement:
        published.append(("retired", retired.selector, retired.value))
    if configuration.ed25519_key is not None:
        published.append(("ed25519", configuration.ed25519_key.selector, configuration.ed25519_key.value))
    return tuple(
        ZoneKey(name=f"{selector}.{configuration.dkim_zone}", value=value, domain=configuration.domain, use=use)
        for use, selector, value in published
    )
