"""Proving that a domain is one's own although another instance has it."""

from datetime import datetime

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http, SmtpConfiguration, shown
from services.control.api.desk import Desk
from services.control.api.parameters import InstanceId, TheDesk
from services.control.caller import instance_of
from services.control.takeovers import challenge_name
from shared.contract import requests
from shared.contract.records import DomainTakeover
from shared.contract.requests import ChallengeSeen, LookForChallenge
from shared.contract.standing import Observation

PATH = "/v1/postlane/instances/{instance_id:str}/takeovers"


class BeginTakeover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The domain to take over."""

    domain: str


class CompleteTakeover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configuration to make once the domain is proven."""

    name: str = ""
    """Empty: the domain."""
    description: str = ""
    delegate: bool = False


class TakeoverOut(msgspec.Struct, frozen=True, kw_only=True):
    """A challenge: publish `value` as a TXT record at `name`."""

    id: str
    domain: str
    name: str
    value: str
    until: datetime


class TakeoverList(msgspec.Struct, frozen=True, kw_only=True):
    """Open challenges."""

    takeovers: tuple[TakeoverOut, ...]


def _out(desk: Desk, takeover: DomainTakeover) -> TakeoverOut:
    return TakeoverOut(
        id=takeover.id,
        domain=takeover.domain,
        name=challenge_name(takeover.domain),
        value=takeover.token,
        until=desk.takeovers.until(takeover),
    )


@post(PATH, tags=["takeovers"])
async def begin_takeover(
    request: Http, desk: TheDesk, instance_id: InstanceId, data: JSONBody[BeginTakeover]
) -> TakeoverOut:
    """Ask for a domain that another instance has; the answer is what to publish in its DNS."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id, write=True)
    return _out(desk, await desk.takeovers.begin(caller, instance_id, data.domain))


@get(PATH, tags=["takeovers"])
async def list_takeovers(request: Http, desk: TheDesk, instance_id: InstanceId) -> TakeoverList:
    """List the open challenges of an instance."""
    instance_of(desk.directory, caller_of(request), instance_id)
    return TakeoverList(takeovers=tuple(_out(desk, each) for each in desk.takeovers.open_of(instance_id)))


@post(PATH + "/{takeover_id:str}/complete", tags=["takeovers"])
async def complete_takeover(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    takeover_id: FromPath[str],
    data: JSONBody[CompleteTakeover | None] = None,
) -> SmtpConfiguration:
    """Have the proof looked up; the other configuration is suspended, and one is made here."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id, write=True)
    wish = data or CompleteTakeover()
    desk.lookups.count(instance_id)

    async def look(name: str, value: str) -> Observation:
        question = LookForChallenge(name=name, value=value)
        seconds = desk.settings.verify_seconds
        return (await desk.ask("verifier", requests.CHALLENGE, question, ChallengeSeen, seconds)).observation

    made = await desk.takeovers.complete(
        caller,
        desk.takeovers.found(instance_id, takeover_id),
        wish.name,
        wish.description,
        delegate=wish.delegate,
        look=look,
    )
    return shown(desk, made, created=True)


@delete(PATH + "/{takeover_id:str}", tags=["takeovers"])
async def drop_takeover(request: Http, desk: TheDesk, instance_id: InstanceId, takeover_id: FromPath[str]) -> None:
    """Forget a challenge."""
    caller = caller_of(request)
    instance_of(desk.directory, caller, instance_id, write=True)
    await desk.takeovers.drop(caller, desk.takeovers.found(instance_id, takeover_id))


HANDLERS = [begin_takeover, list_takeovers, complete_takeover, drop_takeover]
