"""Which of a configuration's keys sign: the one in use, or the next one as soon as the verifier has seen it in DNS.

A key that receivers cannot look up yet would make good mail fail, so what was not seen is not used.
"""

from typing import NamedTuple

from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Observation, Standing


class KeyChoice(NamedTuple):
    """A sealed key to sign with: its name in the bucket `keys`, and the selector it must have ("": any)."""

    name: str
    selector: str


def chosen(configuration_id: str, configuration: Configuration | None, standing: Standing | None) -> tuple[
    KeyChoice, ...
]:  # fmt: skip
    """Return the keys to sign with, the main one first; what comes after it is optional."""
    present = KeyChoice(f"dkim.{configuration_id}", "")
    if configuration is None or standing is None:
        return (present,)
    keys = [present]
    coming, second = configuration.next_key, configuration.ed25519_key
    if coming is not None and _seen(configuration, coming, standing.next_dkim):
        keys = [KeyChoice(f"dkim-next.{configuration_id}", coming.selector)]
    if second is not None and _seen(configuration, second, standing.ed25519):
        keys.append(KeyChoice(f"dkim-ed25519.{configuration_id}", second.selector))
    return tuple(keys)


def _seen(configuration: Configuration, key: PublishedKey, observation: Observation | None) -> bool:
    """Whether an observation is a pass of exactly this key, not of one before it."""
    name = f"{key.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1
    return (
        observation is not None
        and observation.verdict == "pass"
        and observation.name == name
        and observation.at >= key.since
    )
