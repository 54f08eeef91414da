"""How mail of a domain is treated: what its tenant chooses, and what an operator does."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Response, get, post

from services.control.console.calls import Declined
from services.control.console.domains import PAGE, Form, Identity, own
from services.control.console.pages import ROOT, elsewhere, whole
from services.control.console.visit import TheVisit
from shared.mail.address import Address, parse_address


class Preference(msgspec.Struct, frozen=True, kw_only=True):
    """One of them, as a field of the form."""

    what: str
    choices: dict[str, str] = {}
    """Each with what it means; empty: whatever is written."""
    read: Callable[[str], object] = str
    """Returns what was written as the API takes it, None if it is nothing of the kind."""
    nothing: str = ""
    """What it means if the API has none, or an empty one."""
    can_be_cleared: bool = True
    """Else the API has no word for it, once it is set."""
    of_operators: bool = False


def _is_yes(text: str) -> bool:
    return text == "yes"


POLICIES = {"off": "take it", "warn": "take it, with a remark", "refuse": "refuse it"}
PREFERENCES = {
    "when_suspended": Preference(
        what="New mail while DNS suspends sending", choices={"hold": "hold it", "refuse": "refuse it"}
    ),
    "hold_cap": Preference(what="Messages held then, at most", read=whole),
    "lifetime_seconds": Preference(
        what="Seconds for which delivery is tried",
        nothing="as the operator has set it",
        can_be_cleared=False,
        read=whole,
    ),
    "at_most_once": Preference(
        what="A message whose final reply was lost",
        choices={"no": "send it again, perhaps twice", "yes": "give it up, never twice"},
        read=_is_yes,
    ),
    "repeats": Preference(
        what="Repeated submissions that get the first queue ID",
        choices={
            "off": "none",
            "header": "those with an Idempotency-Key",
            "content": "also those of the same Message-ID, envelope and body",
        },
    ),
    "html_policy": Preference(what="HTML that is not well-formed", choices=POLICIES),
    "unsubscribe_policy": Preference(what="Marketing mail without a way to unsubscribe", choices=POLICIES),
    "reply_to": Preference(what="Where reports on undeliverable mail go", nothing="to the sender"),
    "spam_policy": Preference(what="What the spam filter takes for spam", choices=POLICIES, of_operators=True),
    "attachments_allowed": Preference(
        what="Attachments", choices={"no": "refuse them", "yes": "allow them"}, read=_is_yes, of_operators=True
    ),
    "egress_pool": Preference(what="Pool of outgoing addresses", nothing="all of them", of_operators=True),
}
"""By their names in the API."""


@get(PAGE + "/preferences")
async def show_preferences(visit: TheVisit, instance: Identity, configuration: Identity) -> Response[str]:
    """Show them, and whether reports reach the address they are to reach."""
    detail = await visit.calls.get(own(instance, configuration))
    reply_to = parse_address(detail["reply_to"])
    return visit.page(
        "preferences",
        detail=detail,
        preferences=PREFERENCES,
        values={name: _written(detail.get(name)) for name in PREFERENCES},
        is_own=isinstance(reply_to, Address) and reply_to.domain == detail["overview"]["domain"],
    )


def _written(value: str | int | bool | None) -> str:
    """Return a value of the API as the form has it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


@post(PAGE + "/preferences")
async def change(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Change those that are other than they were on the page: what somebody else has changed meanwhile stays."""
    wish: dict[str, object] = {}
    for name, preference in PREFERENCES.items():
        text = data.get(name, "").strip()
        if name in data and text != data.get(f"before-{name}", ""):
            wish[name] = preference.read(text)
            if wish[name] is None:
                raise Declined(400, (f"{preference.what}: {text!r} is not a whole number",))
    await visit.calls.act("PATCH", own(instance, configuration), wish)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}/preferences?done=changed")


@post(PAGE + "/preferences/confirmation")
async def confirm_again(visit: TheVisit, instance: Identity, configuration: Identity) -> Response[Any]:
    """Mail the link that confirms the address for reports once more."""
    await visit.calls.act("POST", own(instance, configuration, "reply-to", "confirmation"))
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}/preferences?done=link-mailed")


HANDLERS = [show_preferences, change, confirm_again]
