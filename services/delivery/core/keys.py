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


class Choice(NamedTuple):
    """What to sign with: the first of `main` that there is, and whatever there is of `beside`."""

    main: tuple[KeyChoice, ...]
    beside: tuple[KeyChoice, ...] = ()


def chosen(configuration_id: str, configuration: Configuration | None, standing: Standing | None) -> Choice:
    """Return the keys to sign with.

    While a rotation is being finished the key in use may still lie under the name of the next one.
    """
    anything = KeyChoice(f"dkim.{configuration_id}", "")
    if configuration is None:
        return Choice((anything,))
    in_use: tuple[KeyChoice, ...] = (
        KeyChoice(f"dkim.{configuration_id}", configuration.selector),
        KeyChoice(f"dkim-next.{configuration_id}", configuration.selector),
        anything,
    )
    if standing is None:
        return Choice(in_use)
    coming, second = configuration.next_key, configuration.ed25519_key
    if coming is not None and _seen(configuration, coming, standing.next_dkim):
        in_use = (KeyChoice(f"dkim-next.{configuration_id}", coming.selector), *in_use)
    if second is not None and _seen(configuration, second, standing.ed25519):
        return Choice(in_use, (KeyChoice(f"dkim-ed25519.{configuration_id}", second.selector),))
    return Choice(in_use)


def _seen(configuration: Configuration, key: PublishedKey, observation: Observation | None) -> bool:
    """Whether an observation is a pass of exactly this key, not of one before it."""
    name = f"{key.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1
    return (
        observation is not None
        and observation.verdict == "pass"
        and observation.name == name
        and observation.at >= key.since
    )
