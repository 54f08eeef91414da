"""API keys and the audit log."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.masks import shown_to
from services.control.api.parameters import TheDesk
from services.control.caller import instance_of
from services.control.core.fault import Fault, text_fault
from services.control.refusal import bad_request, unknown
from shared.contract.records import ApiKey, Role
from shared.contract.siblings import ApiKeyUse
from shared.runtime.clock import now

MOST_AUDITED = 1000
DESCRIPTION_LENGTH = 250


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make."""

    role: Role
    instance: str | UnsetType = UNSET
    """Left out only for the role operator."""
    description: str = ""
    expires_at: datetime | UnsetType = UNSET


class KeyUse(msgspec.Struct, frozen=True, kw_only=True):
    """The last use of a key, as of a minute ago."""

    at: datetime
    address: str
    client: str
    """The User-Agent."""


class KeyOut(msgspec.Struct, frozen=True, kw_only=True):
    """A key; its secret part is never shown again."""

    id: str
    role: Role
    description: str
    created_at: datetime
    created_by: str
    state: Literal["usable", "expired", "revoked"]
    instance: str | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    revoked_at: datetime | UnsetType = UNSET
    last_use: KeyUse | UnsetType = UNSET
    """Left out: never used."""
    api_key: str | UnsetType = UNSET
    """Only when the key has just been made."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """The keys the caller may see."""

    keys: tuple[KeyOut, ...]


class AuditList(msgspec.Struct, frozen=True, kw_only=True):
    """Records of the audit log, newest first."""

    records: tuple[msgspec.Raw, ...]
    older: int | UnsetType = UNSET
    """Give it as `before` to read on; left out: there is nothing older."""


def _shown(record: ApiKey, text: str | None = None, use: ApiKeyUse | None = None) -> KeyOut:
    expired = record.expires_at is not None and record.expires_at <= now()
    return KeyOut(
        id=record.id,
        role=record.role,
        description=record.description,
        created_at=record.created_at,
        created_by=record.created_by,
        state="revoked" if record.revoked_at else "expired" if expired else "usable",
        instance=record.instance or UNSET,
        expires_at=record.expires_at or UNSET,
        revoked_at=record.revoked_at or UNSET,
        last_use=KeyUse(at=use.at, address=use.address, client=use.client) if use else UNSET,
        api_key=text or UNSET,
    )


@post("/v1/postlane/keys", tags=["keys"])
async def create_key(request: Http, desk: TheDesk, data: JSONBody[CreateKey]) -> KeyOut:
    """Make an API key; it is shown this once. Managers make keys of their own instance."""
    caller = caller_of(request)
    caller.needs_write()
    instance = None if data.instance is UNSET else data.instance
    faults = text_fault("description", data.description, 0, DESCRIPTION_LENGTH)
    expires_at = None if data.expires_at is UNSET else data.expires_at
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now()):
        faults += (Fault("invalid_time", "expires_at must be a time to come, with a time zone", "expires_at"),)
    if data.role == "operator":
        caller.needs_operator("make operator keys")
        if instance is not None:
            faults += (Fault("invalid_instance", "an operator's key belongs to no instance", "instance"),)
    elif instance is None:
        if caller.instance is None:
            faults += (Fault("instance_missing", f"name the instance this {data.role} may reach", "instance"),)
        instance = caller.instance
    if faults:
        raise bad_request(*faults)
    if instance is not None:
        instance_of(desk.directory, caller, instance, write=True)
    text, record = await desk.keys.add(caller, data.role, instance, data.description, expires_at)
    return _shown(record, text)


@get("/v1/postlane/keys", tags=["keys"])
async def list_keys(request: Http, desk: TheDesk) -> KeyList:
    """List the API keys the caller may see, never their secrets."""
    visible = desk.keys.visible(caller_of(request))
    return KeyList(keys=tuple(_shown(record, use=desk.keys.last_use(record.id)) for record in visible))


@get("/v1/postlane/keys/{key_id:str}", tags=["keys"])
async def get_key(request: Http, desk: TheDesk, key_id: FromPath[str]) -> KeyOut:
    """Return an API key with its last use, never its secret."""
    for record in desk.keys.visible(caller_of(request)):
        if record.id == key_id:
            return _shown(record, use=desk.keys.last_use(key_id))
    raise unknown("key", key_id)


@delete("/v1/postlane/keys/{key_id:str}", tags=["keys"])
async def revoke_key(request: Http, desk: TheDesk, key_id: FromPath[str]) -> None:
    """Revoke an API key, and every token made from it."""
    caller = caller_of(request)
    caller.needs_write()
    await desk.keys.revoke(caller, key_id)


@get("/v1/postlane/audit", tags=["audit"])
async def list_audit(
    request: Http,
    desk: TheDesk,
    instance: Annotated[str, QueryParameter(description="only this instance")] = "",
    key: Annotated[str, QueryParameter(description="only changes whose key contains this")] = "",
    limit: FromQuery[int] = 100,
    before: Annotated[int | None, QueryParameter(description="`older` of the page before this one")] = None,
) -> AuditList:
    """Return who changed what, newest first; a page of few records has older ones to follow if it names `older`."""
    caller = caller_of(request)
    if not 1 <= limit <= MOST_AUDITED:
        raise bad_request(Fault("invalid_limit", f"limit must be 1 to {MOST_AUDITED}", "limit"))
    if before is not None and before < 1:
        raise bad_request(Fault("invalid_before", "before must be what another page gave as older", "before"))
    wanted = instance or caller.instance or ""
    if wanted:
        instance_of(desk.directory, caller, wanted)
    page = await desk.audit_log.page(wanted, lambda payload: not key or key in _Key.of(payload), limit, before)
    records = tuple(map(msgspec.Raw, page.records))
    return shown_to(caller, AuditList(records=records, older=UNSET if page.older is None else page.older))


class _Key(msgspec.Struct):
    key: str

    @staticmethod
    def of(payload: bytes) -> str:
        return msgspec.json.decode(payload, type=_Key).key


HANDLERS = [create_key, list_keys, get_key, revoke_key, list_audit]
