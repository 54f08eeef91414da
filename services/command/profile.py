"""Profiles of the administrative verbs: where a Postlane is and with which key, so that nobody types them.

Each is a file of its own, readable by its owner only; one is the present one. `postlane up` writes the one named
`default`, and `postlane --profile NAME login` any other.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from shared.contract.errors import PostlaneError

DEFAULT = "default"
ENVIRONMENT = "POSTLANE_PROFILE_NAME"
"""Set by `--profile`; wins over the profile in use."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IN_USE = "in-use"


class ProfileFault(PostlaneError):
    """A name that cannot be a profile's; the text says what to do."""


class ProfileUnknown(ProfileFault):
    """A profile that does not exist; the text names those there are."""


def profile_directory() -> Path:
    """Return where the profiles are kept: beside `POSTLANE_PROFILE`, or in the user's configuration directory."""
    named = os.environ.get("POSTLANE_PROFILE")
    if named:
        return Path(named).parent
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "postlane"


def checked_name(name: str) -> str:
    """Return a profile's name.

    Errors: `ProfileFault` if it cannot be the name of a file.
    """
    if not _NAME.fullmatch(name):
        raise ProfileFault(f"{name!r} cannot be a profile's name: letters, digits, dots, hyphens, at most 64")
    return name


def name_in_use() -> str:
    """Return the name of the profile the verbs use: that of `--profile`, else the one chosen with `profile use`."""
    if named := os.environ.get(ENVIRONMENT):
        return checked_name(named)
    try:
        return checked_name((profile_directory() / _IN_USE).read_text().strip())
    except (OSError, UnicodeDecodeError, ProfileFault):
        return DEFAULT


def profile_file(name: str = "") -> Path:
    """Return the file of a profile, by default the one in use; that of `default` is `POSTLANE_PROFILE` if it is set."""
    chosen = name or name_in_use()
    if chosen == DEFAULT:
        return Path(os.environ.get("POSTLANE_PROFILE") or profile_directory() / "profile.toml")
    return profile_directory() / f"profile-{chosen}.toml"


def profile_names() -> list[str]:
    """Return the names of the profiles there are, in order."""
    others = [file.stem.removeprefix("profile-") for file in profile_directory().glob("profile-*.toml")]
    return ([DEFAULT] if profile_file(DEFAULT).exists() else []) + sorted(others)


def read_profile(name: str = "") -> dict[str, str]:
    """Return url, api_key and instance as far as they are known.

    Errors: `ProfileUnknown` if a profile was asked for by name and does not exist.
    """
    try:
        table = tomllib.loads(profile_file(name).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        if (asked := name or os.environ.get(ENVIRONMENT)) and asked != DEFAULT:
            known = ", ".join(profile_names()) or "none"
            raise ProfileUnknown(
                f"there is no profile {asked!r} (there is: {known}); `postlane login` makes one"
            ) from fault
        return {}
    return {key: str(value) for key, value in table.items()}


def write_profile(values: Mapping[str, str], name: str = "") -> bool:
    """Write a profile, readable by its owner only; False if it cannot be written, which is no fault of the system."""
    file = profile_file(name)
    try:
        # A text in JSON is one in TOML, whatever is in it.
        _write(file, "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    except OSError:
        return False
    return True


def use_profile(name: str) -> None:
    """Make a profile the present one.

    Errors: `ProfileFault` if its name cannot be one, `ProfileUnknown` if it does not exist, `OSError`.
    """
    if checked_name(name) not in profile_names():
        raise ProfileUnknown(f"there is no profile {name!r}; `postlane profile ls` shows those there are")
    _write(profile_directory() / _IN_USE, f"{name}\n")


def remove_profile(name: str) -> None:
    """Remove a profile; if it was the present one, the present one is `default` again.

    Errors: `ProfileFault` if its name cannot be one, `ProfileUnknown` if it does not exist, `OSError`.
    """
    if checked_name(name) not in profile_names():
        raise ProfileUnknown(f"there is no profile {name!r}; `postlane profile ls` shows those there are")
    profile_file(name).unlink()
    marker = profile_directory() / _IN_USE
    if marker.exists() and marker.read_text().strip() == name:
        marker.unlink()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(file)
