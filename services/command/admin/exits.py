"""Exit statuses of the administrative verbs, and how a verb fails: one sentence that says what to do."""

from typing import Any, Final

import typer

DONE: Final = 0
NEGATIVE: Final = 1
"""The answer is no: bounced or expired, not verified, not in time."""
OPEN: Final = 2
"""Not decided yet (`track`)."""
UNREACHABLE: Final = 3
"""The management API does not answer, or cannot do its work at the moment."""
UNKNOWN: Final = 4
"""There is no such object, or not for this key."""
NOT_ALLOWED: Final = 5
"""No key, a wrong one, or one that may not do this."""
CONFLICT: Final = 6
"""The present state does not allow it."""
INVALID: Final = 7
"""What was given cannot be used, be it values or the command line itself; every fault is listed."""

OF_STATUS = {400: INVALID, 401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: UNKNOWN, 409: CONFLICT, 412: CONFLICT,
             413: INVALID, 415: INVALID, 429: UNREACHABLE}  # fmt: skip


def usage_is_invalid() -> None:
    """Let a command line that cannot be understood end with `INVALID`: typer's own 2 is `OPEN` here."""
    usage_error: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")
    usage_error.exit_code = INVALID


def failure(status: int, sentence: str) -> typer.Exit:
    """Say a sentence on standard error; return what ends the command with a status when it is raised."""
    typer.echo(f"postlane: {sentence}", err=True)
    return typer.Exit(status)
