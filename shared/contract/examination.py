"""How the processes of all rooms are: what control asks for the doctor, and what each process answers.

Everybody who hears the question answers it, so the asker also learns how many there are.
"""

from datetime import datetime
from typing import Literal

import msgspec

ROLL_CALL = "postlane.roll-call"

State = Literal["ok", "warning", "bad"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was examined."""

    check: str
    """What was examined, in a word or two: certificate, name server, disk …"""
    state: State
    sentence: str
    """What was found."""
    advice: str = ""
    """What to do about it, "" if it is well."""


class CallRoll(msgspec.Struct, frozen=True, kw_only=True):
    """Ask every process how it is. Subject `postlane.roll-call`; each answers `Present`."""

    egress: str = ""
    """Delivery also tries to reach this exchanger (a host name), which others notice; "": it does not."""


class Present(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one process."""

    room: str
    process: str
    """Host and process ID."""
    at: datetime
    """Its clock."""
    waiting_for: dict[str, str]
    """What it is not ready for, with the reasons; empty: it is ready."""
    findings: tuple[Finding, ...] = ()
