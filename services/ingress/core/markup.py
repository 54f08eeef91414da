"""Whether HTML is well-formed: every element closed where it must be, in the order it was opened, no tag cut off.

The tokens are those of HTML5. Reading is linear in the size; what is nested too deep is a finding, not a task.
"""

from collections import Counter

import justhtml
import msgspec

VOID = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "keygen", "link",
    "meta", "param", "source", "track", "wbr",
})  # fmt: skip
END_OPTIONAL = frozenset({
    "body", "caption", "colgroup", "dd", "dt", "head", "html", "li", "optgroup", "option", "p", "rp", "rt", "tbody",
    "td", "tfoot", "th", "thead", "tr",
})  # fmt: skip
FOREIGN = frozenset({"svg", "math"})
"""Inside these another grammar holds; they are not looked into."""
NAME_LIMIT = 40
DEPTH = 256
"""Open elements; beyond it a document is taken for broken."""
TOLERATED = frozenset({"expected-doctype-but-got-start-tag", "expected-doctype-but-got-chars", "unknown-doctype"})
"""What mail does everywhere, and no reader minds."""


class Flaw(msgspec.Struct, frozen=True):
    """Something wrong, and where; line 0 if nobody can say."""

    what: str
    line: int


class _Open(msgspec.Struct, frozen=True):
    name: str
    number: int
    """Counted among the elements of this name, from 0."""


def flaws(html: str, most: int) -> list[Flaw]:
    """Return what is wrong with a document or a fragment, at most so many."""
    unclosed, too_deep = _nesting(html, most)
    if too_deep:
        return [Flaw(f"elements are nested deeper than {DEPTH}", 0)]
    # Bounded by the depth: building the tree of a document nested without end takes time without end.
    document = justhtml.JustHTML(
        html, sanitize=False, collect_errors=True, max_errors=most * 4, track_node_locations=bool(unclosed)
    )
    found = [
        Flaw(_sentence(error.message), error.line or 0) for error in document.errors if error.code not in TOLERATED
    ]
    lines = _lines(document, {each.name for each in unclosed})
    for each in unclosed:
        known = lines[each.name]
        line = known[each.number] if each.number < len(known) else 0
        found.append(Flaw(f"<{each.name[:NAME_LIMIT]}> is not closed where it must be", line))
    return sorted(found, key=lambda flaw: flaw.line)[:most]


def _nesting(html: str, most: int) -> tuple[list[_Open], bool]:
    """Return elements that are not closed where they must be, and whether the document is nested too deep."""
    stack: list[_Open] = []
    open_names: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    unclosed: list[_Open] = []
    foreign = ""
    depth = 0
    for event in justhtml.stream(html):
        if event[0] == "start":
            name = event[1][0]
            if foreign or name in VOID:
                continue
            foreign = name if name in FOREIGN else ""
            stack.append(_Open(name, seen[name]))
            open_names[name] += 1
            seen[name] += 1
            if name not in END_OPTIONAL:
                depth += 1
                if depth > DEPTH:
                    return unclosed, True
            elif len(stack) > 2 * DEPTH:  # nobody closes them, and nobody must
                stack = [each for each in stack if each.name not in END_OPTIONAL]
                open_names = Counter(each.name for each in stack)
        elif event[0] == "end":
            name = event[1]
            if foreign and name != foreign:
                continue
            foreign = ""
            if not open_names[name]:
                continue  # an end without a start: the parser names it, with its line
            while True:
                top = stack.pop()
                open_names[top.name] -= 1
                must = top.name not in END_OPTIONAL
                depth -= must
                if top.name == name:
                    break
                if must and len(unclosed) < most:
                    unclosed.append(top)
    unclosed += [each for each in stack if each.name not in END_OPTIONAL][: most - len(unclosed)]
    return unclosed, False


def _lines(document: justhtml.JustHTML, names: set[str]) -> dict[str, list[int]]:
    """Return the lines of the start tags of each name, in order; an element the parser made twice counts once."""
    places: dict[str, dict[int, int]] = {name: {} for name in names}
    waiting: list[justhtml.Node] = [document.root] if names else []
    while waiting:
        node = waiting.pop()
        if node.name in names and node.origin_offset is not None:
            places[node.name][node.origin_offset] = node.origin_line or 0
        waiting += [child for child in node.children or () if isinstance(child, justhtml.Node)]
    return {name: [found[offset] for offset in sorted(found)] for name, found in places.items()}


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]
