"""How much a configuration may send, and what of it was sent."""

from datetime import datetime

import msgspec
from litestar import get

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import configuration_of
from services.control.core import spending
from services.control.decisions import Quota
from shared.bus.kv import Bucket
from shared.contract.records import Authorization, User
from shared.contract.siblings import Spending
from shared.runtime.clock import now


class UserSpent(msgspec.Struct, frozen=True, kw_only=True):
    """A user with an hourly limit of its own."""

    username: str
    messages_per_hour: int
    this_hour: int


class QuotaUse(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator approved, and what was sent of it; 0 is unlimited, and what is unlimited is not counted."""

    quota: Quota
    this_hour: int
    this_day: int
    hour_ends_at: datetime
    day_ends_at: datetime
    held: int
    """Messages accepted to be held since the present suspension began."""
    hold_cap: int
    users: tuple[UserSpent, ...]


@get(
    "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/quota",
    tags=["authorization"],
)
async def get_quota(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> QuotaUse:
    """Return the approved quota of a configuration and what all ingress processes have told of its use."""
    found = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    authorization = desk.directory.get(f"authorization.{found.id}", Authorization)
    bucket: Bucket[Spending] = Bucket(desk.bus, "spending", Spending)
    told = [entry.record for entry in await bucket.entries()]
    at = now()
    sent = spending.spent(told, found.id, at)
    standing = desk.directory.standings.get(found.id)
    suspended = standing is not None and standing.state == "suspended"
    users = sorted(desk.directory.all(f"user.{found.id}.", User), key=lambda user: user.created_at)
    return QuotaUse(
        quota=Quota(**{name: getattr(authorization, name) for name in Quota.__struct_fields__})
        if authorization
        else Quota(),
        this_hour=sent.this_hour,
        this_day=sent.this_day,
        hour_ends_at=spending.next_hour(at),
        day_ends_at=spending.next_day(at),
        held=spending.held(told, found.id, standing.since) if standing is not None and suspended else 0,
        hold_cap=found.hold_cap,
        users=tuple(
            UserSpent(
                username=user.username,
                messages_per_hour=user.messages_per_hour,
                this_hour=spending.spent(told, user.id, at).this_hour,
            )
            for user in users
            if user.messages_per_hour
        ),
    )


HANDLERS = [get_quota]
