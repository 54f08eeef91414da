"""Signing keys of a domain: replaced while mail flows, and a second one beside the first."""

from typing import Any

from litestar import Response, get, post
from litestar.params import FromQuery

from services.control.console.calls import Declined
from services.control.console.domains import PAGE, Form, Identity, own
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit

KEYS = PAGE + "/signing-keys"


@get(KEYS)
async def show_signing_keys(
    visit: TheVisit, instance: Identity, configuration: Identity, look: FromQuery[str] = ""
) -> Response[str]:
    """Show which keys sign and what is to be published; DNS is looked at only if that is asked for."""
    where = own(instance, configuration, "records")
    advice = await visit.calls.get(where, look="now" if look else "last")
    return visit.page(
        "signing_keys",
        keys=await visit.calls.get(own(instance, configuration, "dkim")),
        advice=advice,
        records=[each for each in advice["records"] if each["kind"].startswith("dkim")],
        domain=f"{ROOT}/tenants/{instance}/domains/{configuration}",
    )


@post(KEYS + "/rotate")
async def rotate(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Make the next key."""
    wish = {name: data.get(name) == "yes" for name in ("finish_when_seen", "force")}
    await visit.calls.act("POST", own(instance, configuration, "dkim", "rotate"), wish)
    return _done(instance, configuration, "rotation-begun")


@post(KEYS + "/finish")
async def finish(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Give up the key in use for the next one; the API refuses it until that one was seen in DNS."""
    _check_sure(data, "the key given up signs nothing any more")
    await _check_same(visit, instance, configuration, data, "next_selector")
    await visit.calls.act("POST", own(instance, configuration, "dkim", "finish"))
    return _done(instance, configuration, "rotation-finished")


@post(KEYS + "/cancel")
async def cancel(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Give up the next key; the one in use stays."""
    _check_sure(data, "the next key is gone for good")
    await _check_same(visit, instance, configuration, data, "next_selector")
    await visit.calls.act("POST", own(instance, configuration, "dkim", "cancel"))
    return _done(instance, configuration, "rotation-cancelled")


@post(KEYS + "/ed25519")
async def add_second(visit: TheVisit, instance: Identity, configuration: Identity) -> Response[Any]:
    """Make a second key (Ed25519)."""
    await visit.calls.act("POST", own(instance, configuration, "dkim", "ed25519"))
    return _done(instance, configuration, "second-key")


@post(KEYS + "/ed25519/remove")
async def remove_second(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Stop signing with the second key."""
    _check_sure(data, "the second key is gone for good")
    await _check_same(visit, instance, configuration, data, "ed25519_selector")
    await visit.calls.act("DELETE", own(instance, configuration, "dkim", "ed25519"))
    return _done(instance, configuration, "second-key-removed")


def _check_sure(data: dict[str, str], what: str) -> None:
    if data.get("sure") != "yes":
        raise Declined(400, (f"{what}: tick that you mean it",))


async def _check_same(visit: TheVisit, instance: str, configuration: str, data: dict[str, str], name: str) -> None:
    """Refuse to give up another key than the one on the page: a rotation may have ended and another begun."""
    if not visit.may_write:
        return  # the API refuses it, and says so
    present = await visit.calls.get(own(instance, configuration, "dkim"))
    if present.get(name, "") != data.get("selector", ""):
        raise Declined(409, ("the keys have changed meanwhile: look at them again, then decide",))


def _done(instance: str, configuration: str, what: str) -> Response[Any]:
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}/signing-keys?done={what}")


HANDLERS = [show_signing_keys, rotate, finish, cancel, add_second, remove_second]
