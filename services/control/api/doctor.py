"""How the whole system is: the roll call of all processes, and what the bus says of its store."""

from typing import Annotated, Any

import msgspec
from litestar import get
from litestar.params import QueryParameter

from services.control.api.authentication import caller_of
from services.control.api.configurations import Http
from services.control.api.parameters import TheDesk
from services.control.core.examination import Remark, Thresholds, of_rooms, of_store
from services.control.core.fault import Fault
from services.control.refusal import bad_request, unavailable
from shared.bus.roll_call import call_roll, gather
from shared.contract.catalog import ROOMS
from shared.contract.errors import BusUnavailable
from shared.contract.examination import CallRoll, State
from shared.contract.subjects import SYNC_PROOF
from shared.mail.address import Fault as AddressFault
from shared.mail.address import normalise_domain
from shared.runtime.clock import now

ALL_OF_THE_STORE = b'{"config":true,"accounts":true,"streams":true,"consumer":true}'
GRAVITY: tuple[State, ...] = ("ok", "warning", "bad")


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    state: State
    """The worst of all."""
    remarks: tuple[Remark, ...]


@get("/v1/postlane/doctor", tags=["doctor"])
async def examine(
    request: Http,
    desk: TheDesk,
    egress: Annotated[
        str, QueryParameter(description="host name of an exchanger that delivery shall try to reach")
    ] = "",
) -> Examination:
    """Examine the installation: every process, the bus, its streams and consumers. Operators only."""
    caller_of(request).needs_operator("examine the installation")
    if egress and isinstance(normalise_domain(egress), AddressFault):
        raise bad_request(Fault("invalid_host", "egress must be the host name of a mail exchanger", "egress"))
    thresholds = Thresholds(
        fill_percent=desk.settings.doctor_fill_percent,
        clock_seconds=desk.settings.doctor_clock_seconds,
        waiting_messages=desk.settings.doctor_waiting_messages,
    )
    seconds = desk.settings.doctor_seconds
    asked = now()
    try:
        present = await call_roll(desk.bus, CallRoll(egress=egress), ROOMS, seconds)
        answered = now()
        store = await gather(desk.bus, SYNC_PROOF, ALL_OF_THE_STORE, bool, seconds)
    except BusUnavailable as fault:
        raise unavailable(f"the bus cannot be reached, so nothing else can be examined: {fault}") from fault
    answers: list[dict[str, Any]] = [msgspec.json.decode(each) for each in store]
    remarks = (*of_store(answers, thresholds), *of_rooms(present, asked, answered, thresholds))
    worst = max((each.state for each in remarks), key=GRAVITY.index)
    return Examination(state=worst, remarks=remarks)


HANDLERS = [examine]
