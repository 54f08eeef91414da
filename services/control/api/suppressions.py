"""Suppressed recipients of a configuration: listed from the bucket; delivery, which owns it, enters and removes."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.params import JSONBody, QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.masks import shown_to
from services.control.api.parameters import ConfigurationId, InstanceId, Limit, Offset, Search, TheDesk
from services.control.caller import configuration_of
from services.control.core import paging
from services.control.core.fault import Fault, text_fault
from services.control.refusal import bad_request, conflict, unknown
from shared.contract import requests
from shared.contract.records import Suppression
from shared.contract.requests import AddSuppression, RemoveSuppression, SuppressionAdded, SuppressionRemoved
from shared.mail.address import Address, parse_address
from shared.runtime.clock import now

PATH = "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/suppressions"
REASON_LENGTH = 500


class NewSuppression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address mail shall no longer be sent to."""

    address: str
    reason: str = ""


class SuppressionOut(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient this configuration no longer sends to, and why."""

    address: str
    reason: str
    at: datetime
    queue_id: str
    """The message whose bounce entered it, "" if it was entered by hand."""


class SuppressionList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of suppressed recipients, the newest first."""

    suppressions: tuple[SuppressionOut, ...]
    total_count: int
    offset: int
    limit: int


def _address(text: str) -> str:
    parsed = parse_address(text)
    if not isinstance(parsed, Address):
        raise bad_request(Fault("invalid_address", f"{text!r} is not a mail address: {parsed.reason}", "address"))
    return parsed.written


@get(PATH, tags=["suppressions"])
async def list_suppressions(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    limit: Limit = 10,
    offset: Offset = 0,
    search: Search = "",
) -> SuppressionList:
    """List the recipients a configuration no longer sends to."""
    caller = caller_of(request)
    configuration = configuration_of(desk.directory, caller, instance_id, configuration_id)
    if faults := paging.paging_faults(limit, offset, search):
        raise bad_request(*faults)
    found = [record for _, record in desk.directory.suppressions.items(f"{configuration.id}.")]
    found.sort(key=lambda record: (record.at, record.address), reverse=True)
    page = paging.page([(record, (record.address, record.reason)) for record in found], limit, offset, search)
    return shown_to(
        caller,
        SuppressionList(
            suppressions=tuple(_shown(record) for record in page.items),
            total_count=page.total,
            offset=offset,
            limit=limit,
        ),
    )


@post(PATH, tags=["suppressions"])
async def add_suppression(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[NewSuppression],
) -> SuppressionAdded:
    """Enter a recipient by hand; 409 if it is on the list."""
    caller = caller_of(request)
    configuration = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    if faults := text_fault("reason", data.reason, 0, REASON_LENGTH):
        raise bad_request(*faults)
    address = _address(data.address)
    wish = AddSuppression(configuration=configuration.id, address=address, by=caller.name, reason=data.reason)
    added = await desk.ask("delivery", requests.SUPPRESSION_ADD, wish, SuppressionAdded)
    if not added.added:
        raise conflict("suppression_exists", f"{address} is on the list already")
    await desk.directory.suppresses(configuration.id, address, wanted=True)
    entry = Suppression(configuration=configuration.id, address=address, reason=data.reason, queue_id="", at=now())
    await desk.directory.audit(caller.name, "create", f"suppression.{configuration.id}", instance_id, None, entry)
    return added


@delete(PATH, status_code=200, tags=["suppressions"])
async def remove_suppression(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    address: Annotated[str, QueryParameter(description="the address to send to again")],
) -> SuppressionRemoved:
    """Take a recipient off the list; mail to it is tried again from now on."""
    caller = caller_of(request)
    configuration = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    wanted = _address(address)
    wish = RemoveSuppression(configuration=configuration.id, address=wanted, by=caller.name)
    removed = await desk.ask("delivery", requests.SUPPRESSION_REMOVE, wish, SuppressionRemoved)
    if not removed.removed:
        raise unknown("suppression", address)
    await desk.directory.suppresses(configuration.id, wanted, wanted=False)
    entry = Suppression(configuration=configuration.id, address=wanted, reason="", queue_id="", at=now())
    await desk.directory.audit(caller.name, "delete", f"suppression.{configuration.id}", instance_id, entry, None)
    return removed


def _shown(record: Suppression) -> SuppressionOut:
    return SuppressionOut(address=record.address, reason=record.reason, at=record.at, queue_id=record.queue_id)


HANDLERS = [list_suppressions, add_suppression, remove_suppression]
