"""What an operator decides of a domain: approves or rejects the answers that were on the page, suspends, resumes."""

from typing import Any

from litestar import Response, post

from services.control.console.calls import Declined
from services.control.console.domains import PAGE, QUOTAS, Form, Identity, own
from services.control.console.pages import ROOT, elsewhere
from services.control.console.visit import TheVisit


@post(PAGE + "/approve")
async def approve(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Approve the answers that were on the page, and no others."""
    await _undecided_since(visit, instance, configuration, data)
    wish: dict[str, Any] = {name: _number(data.get(name, ""), what) for name, what in QUOTAS.items()}
    wish |= {name: data[name] for name in ("lane", "reason", "submitted_at") if data.get(name)}
    await visit.calls.act("POST", own(instance, configuration, "authorization", "approve"), wish)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=decided")


@post(PAGE + "/reject")
async def reject(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Reject the answers that were on the page, or withdraw an approval."""
    await _undecided_since(visit, instance, configuration, data)
    wish = {name: data[name] for name in ("reason", "submitted_at") if data.get(name)} | {"reason": _reason(data)}
    await visit.calls.act("POST", own(instance, configuration, "authorization", "reject"), wish)
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=decided")


@post(PAGE + "/suspend")
async def suspend(visit: TheVisit, instance: Identity, configuration: Identity, data: Form) -> Response[Any]:
    """Suspend sending."""
    await visit.calls.act("POST", own(instance, configuration, "suspend"), {"reason": _reason(data)})
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=suspended")


@post(PAGE + "/resume")
async def resume(visit: TheVisit, instance: Identity, configuration: Identity) -> Response[Any]:
    """End an operator's suspension."""
    await visit.calls.act("POST", own(instance, configuration, "resume"))
    return elsewhere(f"{ROOT}/tenants/{instance}/domains/{configuration}?done=resumed")


async def _undecided_since(visit: TheVisit, instance: str, configuration: str, data: dict[str, str]) -> None:
    """Refuse to decide where another operator has since the page was made."""
    if not visit.is_operator:
        return  # the API refuses it, and says so
    present = await visit.calls.get(own(instance, configuration, "authorization"))
    if (present.get("decided_at") or "") != data.get("decided_at", ""):
        raise Declined(409, ("somebody else has decided meanwhile: look at the domain again, then decide",))


def _reason(data: dict[str, str]) -> str:
    return data.get("reason", "")


def _number(text: str, what: str) -> int:
    if not text.strip():
        return 0
    try:
        return int(text)
    except ValueError:
        raise Declined(400, (f"{what}: {text!r} is not a whole number; 0 or nothing is no limit",)) from None


HANDLERS = [approve, reject, suspend, resume]
