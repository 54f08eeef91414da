"""The profile of the administrative verbs: where control is and with which key, so that nobody types them."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path


def profile_file() -> Path:
    """Return the file of the profile: `POSTLANE_PROFILE`, or below the user's configuration directory."""
    named = os.environ.get("POSTLANE_PROFILE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "postlane" / "profile.toml"


def read_profile() -> dict[str, str]:
    """Return url, api_key and instance as far as they are known."""
    try:
        table = tomllib.loads(profile_file().read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    return {name: str(value) for name, value in table.items()}


def write_profile(values: Mapping[str, str]) -> None:
    """Write the profile, readable by its owner only; a profile that cannot be written is no fault of the system."""
    file = profile_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text("".join(f'{name} = "{value}"\n' for name, value in values.items()))
        draft.replace(file)
    except OSError:
        return
