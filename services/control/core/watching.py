"""Which of the things said about an instance's clients concern a configuration, and may be shown to its people."""

import msgspec

from shared.contract import subjects


class Watched(msgspec.Struct, frozen=True):
    """Whose clients are watched."""

    instance: str
    configuration: str
    usernames: frozenset[str]
    """Those of the configuration's users."""
    strangers: bool
    """Whether also clients are shown of which nobody knows whose they are: operators only."""


class Said(msgspec.Struct, frozen=True):
    """What decides it, of any event."""

    instance: str = ""
    configuration: str = ""
    username: str = ""


def listening(watched: Watched) -> tuple[str, ...]:
    """Return the subjects to listen on."""
    own = subjects.about_clients(watched.instance, watched.configuration)
    return own + subjects.about_clients("", "") if watched.strangers else own


def concerns(watched: Watched, said: Said) -> bool:
    """Whether an event is about a user of the configuration, or about a stranger that may be shown."""
    if not said.instance:
        return watched.strangers
    if said.instance != watched.instance:
        return False
    return said.username in watched.usernames or said.configuration == watched.configuration
