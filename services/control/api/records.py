"""The DNS records of a configuration: asked of the verifier, and what it last wrote when it does not answer."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import QueryParameter
from msgspec import UNSET, UnsetType

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.desk import Desk
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import configuration_of
from services.control.core import record_advice
from services.control.core.record_advice import RecordAdvice
from services.control.refusal import Refused
from shared.contract import requests
from shared.contract.errors import RequestFailed
from shared.contract.records import Authorization, Configuration
from shared.contract.requests import DescribeRecords, RecordsSeen
from shared.contract.standing import Observation, Sighting

PATH = "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/records"


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """The DNS records of a configuration: what to publish, what is there, what was there before."""

    domain: str
    records: tuple[RecordAdvice, ...]
    looked: Literal["now", "at the last check", "never"]
    """`now`: the verifier has just asked DNS. Otherwise it did not answer, or was not asked."""
    looked_at: datetime | UnsetType = UNSET
    notes: tuple[str, ...] = ()
    """What to mind, for example that the SPF record is near its limit of look-ups."""
    spf_lookups: int | UnsetType = UNSET
    """DNS look-ups of the SPF record published now, of the 10 allowed."""
    changes: tuple[str, ...] = ()
    """What was lost and gained, and when, newest first."""
    history: tuple[Sighting, ...] = ()
    authorities: tuple[Observation, ...] = ()
    """The same names as each name server of the zone serves them."""


def last_seen(desk: Desk, configuration: Configuration) -> tuple[RecordAdvice, ...]:
    """Return the records with what was seen of them at the last check."""
    standing = desk.directory.standings.get(configuration.id)
    return record_advice.from_standing(configuration, standing, _contacts(desk, configuration))


def _contacts(desk: Desk, configuration: Configuration) -> tuple[str, ...]:
    authorization = desk.directory.get(f"authorization.{configuration.id}", Authorization)
    return authorization.questionnaire.contacts if authorization else ()


@get(PATH, tags=["onboarding"])
async def get_records(
    request: Http,
    desk: TheDesk,
    instance_id: InstanceId,
    configuration_id: ConfigurationId,
    look: Annotated[
        Literal["now", "last"], QueryParameter(description="ask DNS now, or tell what was last seen")
    ] = "now",
    authorities: Annotated[
        bool, QueryParameter(description="ask each name server of the zone too, which takes longer")
    ] = False,
) -> Advice:
    """Return the DNS records to publish, which are missing, wrong or fine now, and what changed."""
    found = configuration_of(desk.directory, caller_of(request), instance_id, configuration_id)
    if look == "last":
        return _from_standing(desk, found, ())
    desk.lookups.count(found.instance)
    try:
        seen = await desk.ask(
            "verifier",
            requests.RECORDS,
            DescribeRecords(configuration=found.id, authorities=authorities),
            RecordsSeen,
            desk.settings.verify_seconds,
        )
    except (Refused, RequestFailed):  # no verifier, or one that has not heard of this configuration yet
        note = "the verifier does not answer at the moment: this is what it saw when it last looked, if it has"
        return _from_standing(desk, found, (note,))
    return Advice(
        domain=found.domain,
        records=record_advice.from_verifier(found, seen, _contacts(desk, found)),
        looked="now",
        looked_at=seen.spf.at,
        notes=seen.notes,
        spf_lookups=seen.spf_lookups,
        changes=seen.changes,
        history=seen.history,
        authorities=seen.authorities,
    )


def _from_standing(desk: Desk, configuration: Configuration, notes: tuple[str, ...]) -> Advice:
    standing = desk.directory.standings.get(configuration.id)
    checked_at = standing.checked_at if standing else None
    return Advice(
        domain=configuration.domain,
        records=last_seen(desk, configuration),
        looked="at the last check" if checked_at else "never",
        looked_at=checked_at or UNSET,
        notes=notes,
    )


HANDLERS = [get_records]
