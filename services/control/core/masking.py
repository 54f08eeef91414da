"""What readers see of addresses: every second character before the @ is hidden, wherever an address stands.

Who looks for an exact address still finds its messages; who only reads does not learn whom a tenant writes to.
"""

import re
from typing import Any

from shared.mail.address import mask

KEPT = frozenset({"message_id"})
"""Fields that look like an address and are none."""
_ADDRESS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s<>()\[\],;:"@\\]+)@[\w.-]*\w')


def masked_text(text: str) -> str:
    """Return a text with every address in it masked."""
    return _ADDRESS.sub(lambda found: mask(found[0]), text)


def masked(value: Any) -> Any:
    """Return a JSON value with every address in its texts masked."""
    match value:
        case str():
            return masked_text(value)
        case list():
            return [masked(each) for each in value]
        case dict():
            return {name: each if name in KEPT else masked(each) for name, each in value.items()}
        case _:
            return value
