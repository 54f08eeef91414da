"""Lists of IBM's API: limit, offset, search, and links to the other pages."""

from collections.abc import Sequence
from typing import Generic, TypeVar
from urllib.parse import urlencode

import msgspec

from services.control.core.fault import Fault

T = TypeVar("T")
LIMIT = 10
MOST = 100
SEARCH_LENGTH = 100


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of what matches; `total` counts all matches."""

    items: tuple[T, ...]
    total: int
    offset: int
    limit: int

    def link(self, base: str, offset: int, search: str) -> str:
        """Return the URL of the page at `offset`."""
        query = {"limit": self.limit, "offset": offset} | ({"search": search} if search else {})
        return f"{base}?{urlencode(query)}"

    @property
    def previous(self) -> int | None:
        """Offset of the page before, None on the first."""
        return max(0, self.offset - self.limit) if self.offset > 0 else None

    @property
    def next(self) -> int | None:
        """Offset of the page after, None on the last."""
        return self.offset + self.limit if self.offset + self.limit < self.total else None


def paging_faults(limit: int, offset: int, search: str) -> tuple[Fault, ...]:
    """Check the parameters of a list."""
    faults = []
    if not 1 <= limit <= MOST:
        faults.append(Fault("invalid_limit", f"limit must be 1 to {MOST}", "limit"))
    if offset < 0:
        faults.append(Fault("invalid_offset", "offset must not be negative", "offset"))
    if len(search) > SEARCH_LENGTH:
        faults.append(Fault("invalid_search", f"search must have at most {SEARCH_LENGTH} characters", "search"))
    return tuple(faults)


def page(items: Sequence[tuple[T, tuple[str, ...]]], limit: int, offset: int, search: str) -> Page[T]:
    """Return one page of the items one of whose texts contains `search`, whatever the case; blank finds all."""
    wanted = search.strip().casefold()
    found = [item for item, texts in items if not wanted or any(wanted in text.casefold() for text in texts)]
    return Page(tuple(found[offset : offset + limit]), len(found), offset, limit)
