"""IBM's context-based restrictions: rules, and what can be restricted at all."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, base_url
from services.control.api.desk import Desk
from services.control.api.parameters import TheDesk
from services.control.api.zones import CRN, AccountId, IfMatch, account_of, etag, revision_of
from services.control.caller import Caller, found_by_id
from services.control.core import access_rules
from services.control.core.access_rules import (
    RULES_PER_INSTANCE,
    SERVICE,
    SMTP_API_TYPE,
    ZONES_PER_INSTANCE,
)
from services.control.core.fault import Fault
from services.control.networks import RuleWish
from services.control.refusal import bad_request, unknown
from shared.contract.records import Rule, RuleAttribute


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """A name and a value."""

    name: str
    value: str
    operator: str | UnsetType = UNSET


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """One alternative: all of its attributes must match."""

    attributes: tuple[Attribute, ...]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule protects."""

    attributes: tuple[Attribute, ...]
    tags: tuple[Attribute, ...] | UnsetType = UNSET


class ApiTypeName(msgspec.Struct, frozen=True, kw_only=True):
    """An API type."""

    api_type_id: str


class Operations(msgspec.Struct, frozen=True, kw_only=True):
    """The API types a rule is about."""

    api_types: tuple[ApiTypeName, ...]


class RuleIn(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as a client writes it."""

    contexts: tuple[Context, ...]
    resources: tuple[Resource, ...]
    operations: Operations | UnsetType = UNSET
    description: str = ""
    enforcement_mode: str = "enabled"


class RuleOut(msgspec.Struct, frozen=True, kw_only=True):
    """A rule."""

    id: str
    crn: str
    description: str
    contexts: tuple[Context, ...]
    resources: tuple[Resource, ...]
    operations: Operations
    enforcement_mode: str
    href: str
    created_at: datetime
    created_by_id: str
    last_modified_at: datetime
    last_modified_by_id: str


class RuleList(msgspec.Struct, frozen=True, kw_only=True):
    """All rules of an account."""

    count: int
    rules: tuple[RuleOut, ...]


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and counts of an account."""

    id: str
    crn: str
    rule_count_limit: int
    zone_count_limit: int
    tags_rule_count_limit: int
    current_rule_count: int
    current_zone_count: int
    current_tags_rule_count: int
    href: str


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """An action of an API type."""

    action_id: str
    description: str


class ApiType(msgspec.Struct, frozen=True, kw_only=True):
    """Something rules can restrict."""

    api_type_id: str
    display_name: str
    description: str
    type: str
    actions: tuple[Action, ...]
    enforcement_modes: tuple[str, ...]


class OperationsList(msgspec.Struct, frozen=True, kw_only=True):
    """What rules can restrict."""

    api_types: tuple[ApiType, ...]


class ServiceRefTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A service a zone could refer to; there is none here."""

    service_name: str


class ServiceRefTargets(msgspec.Struct, frozen=True, kw_only=True):
    """Services a zone could refer to."""

    count: int
    targets: tuple[ServiceRefTarget, ...]


def _written(attributes: tuple[Attribute, ...]) -> tuple[RuleAttribute, ...]:
    return tuple(RuleAttribute(name=a.name, value=a.value, operator=a.operator or "") for a in attributes)


def _read(attributes: tuple[RuleAttribute, ...]) -> tuple[Attribute, ...]:
    return tuple(Attribute(name=a.name, value=a.value, operator=a.operator or UNSET) for a in attributes)


def _shown(rule: Rule, base: str) -> RuleOut:
    return RuleOut(
        id=rule.id,
        crn=CRN.format(account=rule.instance, kind="rule", id=rule.id),
        description=rule.description,
        contexts=tuple(Context(attributes=_read(context.written)) for context in rule.contexts),
        resources=(Resource(attributes=_read(rule.resource)),),
        operations=Operations(api_types=tuple(ApiTypeName(api_type_id=name) for name in rule.api_types)),
        enforcement_mode=rule.enforcement,
        href=f"{base}/v1/rules/{rule.id}",
        created_at=rule.created_at,
        created_by_id=rule.created_by,
        last_modified_at=rule.updated_at,
        last_modified_by_id=rule.updated_by,
    )


def _wish(desk: Desk, caller: Caller, data: RuleIn) -> RuleWish:
    if any(resource.tags for resource in data.resources):
        raise bad_request(Fault("unsupported_tags", "resources[0]: tags cannot be enforced here", "resources[0]"))
    resources = [_written(resource.attributes) for resource in data.resources]
    account, faults = access_rules.rule_account(resources)
    if faults:
        raise bad_request(*faults)
    types = tuple(each.api_type_id for each in data.operations.api_types) if data.operations else ()
    return RuleWish(
        instance=account_of(desk, caller, account, write=True),
        contexts=tuple(_written(context.attributes) for context in data.contexts),
        resource=resources[0],
        api_types=types,
        enforcement=data.enforcement_mode,
        description=data.description,
    )


def _found(desk: Desk, caller: Caller, rule_id: str, *, write: bool = False) -> Rule:
    return found_by_id(desk.directory, caller, Rule, "rule", rule_id, write=write)


@post("/v1/rules", tags=["context-based restrictions"])
async def create_rule(request: Http, desk: TheDesk, data: JSONBody[RuleIn]) -> Response[RuleOut]:
    """Create a rule: it lets zones reach the SMTP interface of an instance."""
    caller = caller_of(request)
    rule, revision = await desk.networks.create_rule(caller, _wish(desk, caller, data))
    return Response(_shown(rule, base_url(request, desk)), headers={"ETag": etag(revision)})


@get("/v1/rules", tags=["context-based restrictions"])
async def list_rules(
    request: Http,
    desk: TheDesk,
    account_id: AccountId,
    zone_id: Annotated[str, QueryParameter(description="only rules that name this zone")] = "",
    service_name: Annotated[str, QueryParameter(description="only rules of this service")] = "",
    service_instance: Annotated[str, QueryParameter(description="only rules of this one")] = "",
    enforcement_mode: Annotated[str, QueryParameter(description="only rules so enforced")] = "",
    sort: Annotated[str, QueryParameter(description="created_at or description; - in front: backwards")] = "",
) -> RuleList:
    """List the rules of an account; other filters of IBM's describe resources that do not exist here."""
    account = account_of(desk, caller_of(request), account_id)
    base = base_url(request, desk)
    key = sort.removeprefix("-") or "created_at"
    if key not in ("created_at", "last_modified_at", "description", "id"):
        raise bad_request(Fault("invalid_sort", "sort by description, id, created_at or last_modified_at", "sort"))
    unmatched = {"region", "resource", "resource_type", "service_type", "service_group_id"} & set(request.query_params)
    found = [
        _shown(rule, base)
        for rule in desk.networks.rules(account)
        if not any(request.query_params.get(name) for name in unmatched)
        and (not zone_id or any(zone_id in context.zones for context in rule.contexts))
        and service_name in ("", SERVICE)
        and service_instance in ("", account)
        and enforcement_mode in ("", rule.enforcement)
    ]
    found.sort(key=lambda rule: (getattr(rule, key), rule.id), reverse=sort.startswith("-"))
    return RuleList(count=len(found), rules=tuple(found))


@get("/v1/rules/{rule_id:str}", tags=["context-based restrictions"])
async def get_rule(request: Http, desk: TheDesk, rule_id: FromPath[str]) -> Response[RuleOut]:
    """Return a rule, with its ETag."""
    rule = _found(desk, caller_of(request), rule_id)
    revision = desk.directory.revision(f"rule.{rule_id}")
    return Response(_shown(rule, base_url(request, desk)), headers={"ETag": etag(revision)})


@put("/v1/rules/{rule_id:str}", tags=["context-based restrictions"])
async def replace_rule(
    request: Http, desk: TheDesk, rule_id: FromPath[str], if_match: IfMatch, data: JSONBody[RuleIn]
) -> Response[RuleOut]:
    """Replace a rule as a whole, if it is still the one that was read."""
    caller = caller_of(request)
    rule = _found(desk, caller, rule_id, write=True)
    wish = _wish(desk, caller, data)
    if wish.instance != rule.instance:
        raise bad_request(Fault("invalid_account_id", "a rule stays in its account", "resources[0]"))
    replaced, revision = await desk.networks.replace_rule(caller, rule, wish, revision_of(if_match))
    return Response(_shown(replaced, base_url(request, desk)), headers={"ETag": etag(revision)})


@delete("/v1/rules/{rule_id:str}", tags=["context-based restrictions"])
async def delete_rule(request: Http, desk: TheDesk, rule_id: FromPath[str]) -> None:
    """Remove a rule; without any, nobody reaches the instance's SMTP interface."""
    caller = caller_of(request)
    await desk.networks.remove_rule(caller, _found(desk, caller, rule_id, write=True))


@get("/v1/account_settings/{account_id:str}", tags=["context-based restrictions"])
async def get_account_settings(request: Http, desk: TheDesk, account_id: FromPath[str]) -> AccountSettings:
    """Return limits and counts of an account."""
    account = account_of(desk, caller_of(request), account_id)
    return AccountSettings(
        id=account,
        crn=CRN.format(account=account, kind="account-settings", id=account),
        rule_count_limit=RULES_PER_INSTANCE,
        zone_count_limit=ZONES_PER_INSTANCE,
        tags_rule_count_limit=0,
        current_rule_count=len(desk.networks.rules(account)),
        current_zone_count=len(desk.networks.zones(account)),
        current_tags_rule_count=0,
        href=f"{base_url(request, desk)}/v1/account_settings/{account}",
    )


@get("/v1/operations", tags=["context-based restrictions"])
async def list_operations(
    service_name: Annotated[str, QueryParameter(description="event-notifications")] = "",
    service_group_id: Annotated[str, QueryParameter(description="not used here")] = "",
    resource_type: Annotated[str, QueryParameter(description="not used here")] = "",
) -> OperationsList:
    """Return what rules can restrict: the SMTP interface."""
    if service_name and service_group_id:
        raise bad_request(Fault("invalid_parameters", "give service_name or service_group_id, not both"))
    if service_name not in ("", SERVICE) or service_group_id or resource_type:
        return OperationsList(api_types=())
    smtp = ApiType(
        api_type_id=SMTP_API_TYPE,
        display_name="SMTP Configuration",
        description="Submission of mail over SMTP",
        type="network",
        actions=(Action(action_id="event-notifications.smtp.send", description="Submit mail over SMTP"),),
        enforcement_modes=access_rules.ENFORCEMENT,
    )
    return OperationsList(api_types=(smtp,))


@get("/v1/zones/serviceref_targets", tags=["context-based restrictions"])
async def list_serviceref_targets(
    kind: Annotated[str, QueryParameter(name="type", description="all or platform_service")] = "all",
) -> ServiceRefTargets:
    """Return the services a zone could refer to: none, zones here are networks."""
    if kind not in ("all", "platform_service"):
        raise bad_request(Fault("invalid_type", "type is all or platform_service", "type"))
    return ServiceRefTargets(count=0, targets=())


@get("/v1/zones/serviceref_targets/{service_name:str}", tags=["context-based restrictions"])
async def get_serviceref_target(service_name: FromPath[str]) -> ServiceRefTarget:
    """Return a service a zone could refer to: there is none."""
    raise unknown("service reference target", service_name)


HANDLERS = [
    create_rule,
    list_rules,
    get_rule,
    replace_rule,
    delete_rule,
    get_account_settings,
    list_operations,
    list_serviceref_targets,
    get_serviceref_target,
]
