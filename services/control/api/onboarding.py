"""Onboarding: what a configuration lacks before it may send, all about it, and what a customer decides of it."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import get, patch
from litestar.params import JSONBody, QueryParameter
from msgspec import UNSET, Meta, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, SmtpConfig, shown
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.api.records import last_seen
from services.control.caller import configuration_of, instance_of
from services.control.core import onboarding
from services.control.core.fault import Fault
from services.control.core.record_advice import RecordAdvice
from services.control.refusal import bad_request
from shared.contract.records import Authorization, Configuration, Policy, RepeatPolicy, Suspension, User
from shared.contract.standing import Standing
from shared.mail.address import Fault as AddressFault
from shared.mail.address import parse_address

PATH = "/v1/postlane/instances/{instance_id:str}/configurations"
ONE = PATH + "/{configuration_id:str}"


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration at a glance."""

    id: str
    instance: str
    name: str
    domain: str
    state: Literal["pending", "verified", "degraded", "suspended"]
    authorization: Literal["missing", "submitted", "approved", "rejected"]
    suspended_by_operator: bool
    sending: bool
    """Whether new mail is admitted now."""
    missing: tuple[str, ...]
    """What keeps it from sending, each with what to do."""
    users: int
    created_at: datetime


class OverviewList(msgspec.Struct, frozen=True, kw_only=True):
    """Configurations of an instance."""

    configurations: tuple[Overview, ...]


class Detail(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a configuration."""

    overview: Overview
    description: str
    config: SmtpConfig
    records: tuple[RecordAdvice, ...]
    when_suspended: Literal["hold", "refuse"]
    hold_cap: int
    reply_to: str
    attachments_allowed: bool
    repeats: RepeatPolicy
    html_policy: Policy
    unsubscribe_policy: Policy
    spam_policy: Policy
    at_most_once: bool
    egress_pool: str
    updated_at: datetime
    reply_to_confirmed_at: datetime | UnsetType = UNSET
    lifetime_seconds: int | UnsetType = UNSET
    standing: Standing | UnsetType = UNSET
    authorization: Authorization | UnsetType = UNSET
    suspension: Suspension | UnsetType = UNSET


class Preferences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a customer may decide of a configuration; what is left out stays."""

    when_suspended: Literal["hold", "refuse"] | UnsetType = UNSET
    hold_cap: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    lifetime_seconds: Annotated[int, Meta(ge=60, le=30 * 86_400)] | UnsetType = UNSET
    reply_to: str | UnsetType = UNSET
    attachments_allowed: bool | UnsetType = UNSET
    """Operators only."""
    repeats: RepeatPolicy | UnsetType = UNSET
    """Which repeated submissions get the first queue ID: none (`off`), those with an Idempotency-Key (`header`), or
    also those of the same Message-ID, envelope and body (`content`)."""
    html_policy: Policy | UnsetType = UNSET
    """HTML that is not well-formed: `off`, `warn` (a remark in the timeline) or `refuse`."""
    unsubscribe_policy: Policy | UnsetType = UNSET
    """Marketing mail without List-Unsubscribe or a link to unsubscribe."""
    spam_policy: Policy | UnsetType = UNSET
    """What the operator's spam filter takes for spam. Operators only."""
    at_most_once: bool | UnsetType = UNSET
    """A message whose final reply was lost is given up rather than sent twice."""
    egress_pool: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$")] | UnsetType = UNSET
    """Pool of outgoing addresses in delivery's settings; empty: all of them. Operators only."""


def overview(desk: Desk, configuration: Configuration) -> Overview:
    """Return a configuration at a glance."""
    standing = desk.directory.standings.get(configuration.id)
    authorization = desk.directory.get(f"authorization.{configuration.id}", Authorization)
    suspension = desk.directory.get(f"suspension.{configuration.id}", Suspension)
    lacking = onboarding.missing(standing, authorization, suspension)
    return Overview(
        id=configuration.id,
        instance=configuration.instance,
        name=configuration.name,
        domain=configuration.domain,
        state=standing.state if standing else "pending",
        authorization=authorization.status if authorization else "missing",
        suspended_by_operator=suspension is not None,
        sending=not lacking,
        missing=lacking,
        users=len(desk.directory.all(f"user.{configuration.id}.", User)),
        created_at=configuration.created_at,
    )


@get(PATH, tags=["onboarding"])
async def list_overviews(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    domain: Annotated[str, QueryParameter(description="only the configuration of this domain")] = "",
) -> OverviewList:
    """List the configurations of an instance with what each still lacks."""
    instance_of(desk.directory, caller_of(request), instance_id)
    found = [
        c
        for c in desk.directory.all("configuration.", Configuration)
        if c.instance == instance_id and domain.lower() in ("", c.domain)
    ]
    found.sort(key=lambda c: (c.created_at, c.id))
    return OverviewList(configurations=tuple(overview(desk, c) for c in found))


def _detail(desk: Desk, configuration: Configuration) -> Detail:
    standing = desk.directory.standings.get(configuration.id)
    authorization = desk.directory.get(f"authorization.{configuration.id}", Authorization)
    suspension = desk.directory.get(f"suspension.{configuration.id}", Suspension)
    lifetime = configuration.lifetime_seconds
    return Detail(
        overview=overview(desk, configuration),
        description=configuration.description,
        config=shown(desk, configuration).config,
        records=last_seen(desk, configuration),
        when_suspended=configuration.when_suspended,
        hold_cap=configuration.hold_cap,
        lifetime_seconds=UNSET if lifetime is None else lifetime,
        reply_to=configuration.reply_to,
        reply_to_confirmed_at=configuration.reply_to_confirmed_at or UNSET,
        attachments_allowed=configuration.attachments_allowed,
        repeats=configuration.repeats,
        html_policy=configuration.html_policy,
        unsubscribe_policy=configuration.unsubscribe_policy,
        spam_policy=configuration.spam_policy,
        at_most_once=configuration.at_most_once,
        egress_pool=configuration.egress_pool,
        updated_at=configuration.updated_at,
        standing=UNSET if standing is None else standing,
        authorization=UNSET if authorization is None else authorization,
        suspension=UNSET if suspension is None else suspension,
    )


@get(ONE, tags=["onboarding"])
async def get_detail(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> Detail:
    """Return everything about a configuration."""
    return _detail(desk, configuration_of(desk.directory, caller_of(request), instance_id, configuration_id))


@patch(ONE, tags=["onboarding"])
async def set_preferences(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    data: JSONBody[Preferences],
) -> Detail:
    """Change how mail of a configuration is treated."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    if data.attachments_allowed is not UNSET:
        caller.needs_operator("allow attachments")
    if data.spam_policy is not UNSET:
        caller.needs_operator("change what follows from the spam filter's word")
    if data.egress_pool is not UNSET:
        caller.needs_operator("choose outgoing addresses")
    if data.reply_to:
        address = parse_address(data.reply_to)
        if isinstance(address, AddressFault):
            raise bad_request(Fault("invalid_address", f"reply_to is not a mail address: {address.reason}", "reply_to"))
    given = {name: getattr(data, name) for name in data.__struct_fields__}
    changes: dict[str, object] = {name: value for name, value in given.items() if value is not UNSET}
    edited, _ = await desk.configurations.edit(caller, found, changes)
    if edited.reply_to and data.reply_to not in (UNSET, found.reply_to) and edited.reply_to_confirmed_at is None:
        await desk.mail_confirmation(edited)
    return _detail(desk, edited)


@get(ONE + "/standing", tags=["onboarding"])
async def get_standing(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> Standing:
    """Return what the verifier holds of a configuration, with the records it saw."""
    found = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    standing = desk.directory.standings.get(found.id)
    return standing or Standing(
        configuration=found.id,
        instance=found.instance,
        domain=found.domain,
        state="pending",
        reason="the records have not been checked yet",
        since=found.created_at,
    )


HANDLERS = [list_overviews, get_detail, set_preferences, get_standing]
