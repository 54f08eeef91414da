"""Decisions: the questionnaire on what is to be sent, an operator's decision on it, and an operator's suspension."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import get, post, put
from litestar.params import JSONBody
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.onboarding import ONE, Overview, overview
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import configuration_of
from services.control.decisions import Quota
from services.control.refusal import unknown
from shared.contract.records import Authorization, Lane, Suspension


class Approve(Quota, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's approval, with the quota it comes with."""

    reason: str = ""
    lane: Lane | UnsetType = UNSET
    """Left out: as the customer described the mail."""
    submitted_at: datetime | UnsetType = UNSET
    """Of the questionnaire that was read; 409 if another was submitted since."""


class Reject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why not; the customer reads it."""

    reason: str
    submitted_at: datetime | UnsetType = UNSET
    """As for an approval."""


class Reason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; the customer reads it."""

    reason: str


@put(ONE + "/authorization", tags=["authorization"])
async def submit_authorization(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[dict[str, Any]],
) -> Authorization:
    """Submit the questionnaire; every fault is listed at once."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    submitted = await desk.decisions.submit(caller, found, data)
    await desk.mail_confirmation(found)
    return submitted


@get(ONE + "/authorization", tags=["authorization"])
async def get_authorization(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> Authorization:
    """Return the questionnaire and the decision on it."""
    found = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    authorization = desk.directory.get(f"authorization.{found.id}", Authorization)
    if authorization is None:
        raise unknown("authorization", configuration_id)
    return authorization


@post(ONE + "/authorization/approve", status_code=200, tags=["authorization"])
async def approve(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, data: JSONBody[Approve]
) -> Authorization:
    """Approve sending. Operators only."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    caller.needs_operator("decide on authorizations")
    lane: Lane | None = None if data.lane is UNSET else data.lane
    quota = Quota(**{name: getattr(data, name) for name in Quota.__struct_fields__})
    return await desk.decisions.approve(caller, found, lane, quota, data.reason, data.submitted_at or None)


@post(ONE + "/authorization/reject", status_code=200, tags=["authorization"])
async def reject(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, data: JSONBody[Reject]
) -> Authorization:
    """Reject, or withdraw an approval. Operators only."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    caller.needs_operator("decide on authorizations")
    return await desk.decisions.reject(caller, found, data.reason, data.submitted_at or None)


@post(ONE + "/suspend", status_code=200, tags=["suspension"])
async def suspend(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId, data: JSONBody[Reason]
) -> Suspension:
    """Suspend sending at once: new mail is refused, queued mail held. Operators only."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    caller.needs_operator("suspend sending")
    return await desk.decisions.suspend(caller, found, data.reason)


@post(ONE + "/resume", status_code=200, tags=["suspension"])
async def resume(request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId) -> Overview:
    """End an operator's suspension; held mail is released. Operators only."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id)
    caller.needs_operator("resume sending")
    await desk.decisions.resume(caller, found)
    return overview(desk, found)


HANDLERS = [submit_authorization, get_authorization, approve, reject, suspend, resume]
