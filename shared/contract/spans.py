"""Sets of IP addresses as spans of numbers, as zones mean them: united, and taken from each other."""

from collections.abc import Iterable, Sequence

Span = tuple[int, int, int]
"""IP version, first and last address as numbers."""


def merged(parts: Iterable[Span]) -> list[Span]:
    """Return the union of spans, in order and without overlap."""
    result: list[Span] = []
    for version, first, last in sorted(parts):
        if result and result[-1][0] == version and first <= result[-1][2] + 1:
            result[-1] = (version, result[-1][1], max(result[-1][2], last))
        else:
            result.append((version, first, last))
    return result


def without(whole: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    """Return spans without the addresses of others; both as `merged` returns them. Looks at each hole once."""
    left: list[Span] = []
    at = 0
    for version, first, last in whole:
        while at < len(holes) and (holes[at][0], holes[at][2]) < (version, first):
            at += 1  # ends before this span, and so before all that follow
        start, here = first, at
        while here < len(holes) and holes[here][0] == version and holes[here][1] <= last:
            _, hole_first, hole_last = holes[here]
            if hole_first > start:
                left.append((version, start, hole_first - 1))
            start = max(start, hole_last + 1)
            here += 1
        if start <= last:
            left.append((version, start, last))
    return left
