"""The deadline a sender sets for one message: the header `X-Expire-After`, which does not leave with it."""

import re
from collections.abc import Mapping

from services.ingress.core.headers import Field
from shared.mail.address import Fault

HEADER = "x-expire-after"
LONGEST_SECONDS = 365 * 86400
_VALUE = re.compile(rb"([0-9]{1,9}) ?(s|m|h|d)?", re.I)
_SECONDS = {b"": 1, b"s": 1, b"m": 60, b"h": 3600, b"d": 86400}


def expire_after(named: Mapping[str, Field]) -> int | Fault | None:
    """Return the seconds after which a message is worthless, None if its header does not say."""
    field = named.get(HEADER)
    if field is None:
        return None
    found = _VALUE.fullmatch(field.value)
    if found is None or not int(found[1]):
        return Fault("X-Expire-After must be a number of seconds above 0, or a number with s, m, h or d, such as 90m")
    return min(int(found[1]) * _SECONDS[(found[2] or b"").lower()], LONGEST_SECONDS)
