"""Which methods a path knows: told with every 405 and to OPTIONS."""

import re
from collections.abc import Iterable
from typing import Any

_PARAMETER = re.compile(r"\\\{[^/]*?\\\}")


class Methods:
    """The methods of every path; `routes` are the framework's."""

    def __init__(self, routes: Iterable[Any]) -> None:
        self._known = [
            (re.compile(_PARAMETER.sub("[^/]+", re.escape(route.path_format))), frozenset(route.methods))
            for route in routes
            if hasattr(route, "methods")
        ]

    def of(self, path: str) -> str:
        """Return the methods of a path as the header Allow has them; empty if nothing is there."""
        plain = path.rstrip("/") or "/"
        found: set[str] = set()
        for pattern, methods in self._known:
            if pattern.fullmatch(plain):
                found |= methods
        return ", ".join(sorted(found))
