"""Errors one room answers another's request with: stable codes, free texts.

PostlaneError
├── RequestFailed       the asked room answered with a code from this table
├── BusUnavailable      no answer, no connection: the outcome is unknown       (TimeoutError)
│   └── RecordUnreadable  a later version wrote it: it waits for one
├── StoreFull           the stream refuses more                                (OSError)
├── WrongSequence       somebody else wrote first                              (RuntimeError)
└── SettingsFault       the settings cannot be used; lists every fault         (ValueError)
"""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What `msgspec.json.decode` raises for octets that are not a document of ours: also for bad UTF-8 and deep nesting."""


class PostlaneError(Exception):
    """Base of all faults that are ours or the bus's, never a client's."""


class RequestFailed(PostlaneError):
    """A request was answered with an error; `code` is stable, `message` is for people."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (error {code})")
        self.code = code
        self.message = message


class BusUnavailable(PostlaneError, TimeoutError):
    """The bus did not answer: whether the act took effect is unknown."""


class RecordUnreadable(BusUnavailable):
    """A record was written by a later version: nothing may be concluded from it, nor from its absence."""


class StoreFull(PostlaneError, OSError):
    """The stream is at its limit and keeps what it has."""


class WrongSequence(PostlaneError, RuntimeError):
    """The expected last sequence or revision was not the present one."""


class SettingsFault(PostlaneError, ValueError):
    """Settings that cannot be used; the text lists every fault and its cure."""


BAD_REQUEST: Final = 1000
NOT_READY: Final = 1001
CONFIGURATION_UNKNOWN: Final = 2001
MESSAGE_UNKNOWN: Final = 4001
REFERENCE_UNKNOWN: Final = 4002
QUEUED_MESSAGE_UNKNOWN: Final = 3001
ACTION_NOT_POSSIBLE: Final = 3002
INTERNAL: Final = 9000
