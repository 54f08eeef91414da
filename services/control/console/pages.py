"""Pages: templates that escape whatever they are given, headers that let a browser do nothing else with them."""

import re
import unicodedata
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response
from litestar.response import Redirect
from markupsafe import Markup

from services.control.core.masking import masked_text
from shared.mail.words import readable

ROOT = "/console"
HEADERS = {
    # No script, nothing from elsewhere, no frame: a line of a message that a stranger wrote stays text.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
GOOD = frozenset({"delivered", "verified", "approved", "fine", "ok", "usable", "captured", "enabled"})
BAD = frozenset({"bounced", "expired", "suspended", "rejected", "missing", "wrong", "bad", "revoked", "dropped"})
DIGITS = 18
"""Of a number in a form: what 64 bits hold."""
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")


def plain(text: object) -> str:
    """Return a stranger's text without characters that control a terminal or turn the direction of writing."""
    return "".join(each if unicodedata.category(each) not in ("Cc", "Cf") else "\ufffd" for each in str(text))


def subject(text: str, role: str) -> str:
    """Return the subject of a message as its recipients read it, and as `plain` does.

    The API masks what readers get before encoded words are undone: an address may come out of one.
    """
    found = readable(text)
    return plain(masked_text(found) if role == "reader" else found)


def prose(text: object) -> str:
    """Return a stranger's text as `plain` does, in the lines it was written in."""
    return "\n".join(plain(line) for line in re.split(r"\r\n|\r|\n", str(text)))


def whole(text: str) -> int | None:
    """Return the whole number that a form or an address names, None if it is none or has no use."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None


def moment(text: str) -> Markup:
    """Return a time of the API to the second, in UTC."""
    found = _MOMENT.fullmatch(text)
    return (
        Markup('<time datetime="{}">{} {}Z</time>').format(text, found[1], found[2]) if found else Markup.escape(text)
    )


def state(word: str) -> Markup:
    """Return the word of a state, coloured by what it means; the word says it too."""
    kind = "good" if word in GOOD else "bad" if word in BAD else "open"
    return Markup('<span class="state {}">{}</span>').format(kind, word)


_environment = Environment(
    loader=PackageLoader("services.control.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(plain=plain, prose=prose, subject=subject, moment=moment, state=state)


def page(name: str, status: int = 200, **values: Any) -> Response[str]:
    """Return the page made by a template."""
    text = _environment.get_template(f"{name}.html").render(root=ROOT, status=status, **values)
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=HEADERS)


def elsewhere(where: str) -> Redirect:
    """Send the browser to another page, after something was done; going back does not do it again."""
    return Redirect(where, status_code=303, headers=HEADERS)


STYLE = resources.files("services.control.console").joinpath("style.css").read_text()
