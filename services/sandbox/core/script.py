"""What a recipient's name tells the exchanger to do.

`bounce+550-5.1.1@…`       that reply to RCPT (without a code: 550 5.1.1)
`defer+2x@…`               451 4.7.1 at the end of DATA, twice for each message, then accepted
`defer+2x+450-4.2.1@…`     the same with another reply
`greylist+2x@…`            450 4.7.1 to RCPT, twice for each pair of sender and recipient, then accepted
`slow+5s@…`                the reply after DATA takes five seconds
`reject-data@…`            554 5.7.1 at the end of DATA; `reject-data+452-4.3.1@…` with another reply
`drop@…`                   the connection is closed after the final dot, without a reply and without a message
`drop-stored@…`            the same, but the message was stored: the client cannot know
anything else              accepted
"""

import re
from typing import Literal

import msgspec

from shared.mail.reply import Reply

_REPLY = re.compile(r"([45]\d\d)-([45]\.\d{1,3}\.\d{1,3})")
_TIMES = re.compile(r"(\d{1,4})x")
_SECONDS = re.compile(r"(\d{1,4})s")

NO_SUCH_MAILBOX = Reply(550, "5.1.1", "No such mailbox here, as scripted")
GREYLISTED = Reply(451, "4.7.1", "Greylisted, come back later, as scripted")
TRY_LATER = Reply(450, "4.7.1", "Not yet for this sender, as scripted")
REJECTED = Reply(554, "5.7.1", "The message is rejected, as scripted")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a transaction because of one recipient."""

    act: Literal["accept", "bounce", "defer", "greylist", "slow", "reject-data", "drop", "drop-stored"] = "accept"
    reply: Reply | None = None
    times: int = 0
    """How often to defer."""
    seconds: int = 0
    """How long to wait before the final reply."""


ACCEPT = Script()


def script_of(address: str) -> Script:
    """Read the script in an address's local part; whatever is not a script is accepted."""
    word, *details = address.rpartition("@")[0].lower().split("+")
    reply = next((_reply(d) for d in details if _REPLY.fullmatch(d)), None)
    times = next((int(m[1]) for d in details if (m := _TIMES.fullmatch(d))), 1)
    match word:
        case "bounce":
            return Script(act="bounce", reply=reply or NO_SUCH_MAILBOX)
        case "defer":
            return Script(act="defer", reply=reply or GREYLISTED, times=times)
        case "greylist":
            return Script(act="greylist", reply=reply or TRY_LATER, times=times)
        case "slow":
            return Script(act="slow", seconds=next((int(m[1]) for d in details if (m := _SECONDS.fullmatch(d))), 1))
        case "reject-data":
            return Script(act="reject-data", reply=reply or REJECTED)
        case "drop":
            return Script(act="drop")
        case "drop-stored":
            return Script(act="drop-stored")
        case _:
            return ACCEPT


def _reply(detail: str) -> Reply:
    code, _, enhanced = detail.partition("-")
    return Reply(int(code), enhanced, "As scripted")
