"""Authorization and suspension: what the customer says of their mail, and what the operator decides."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from services.control.caller import Caller
from services.control.core import authorization as questions
from services.control.core import letters
from services.control.core.fault import Fault
from services.control.directory import Directory
from services.control.notices import Notices
from services.control.refusal import Refused, bad_request, conflict
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.records import Authorization, Configuration, DomainClaim, Lane, Suspension
from shared.contract.subjects import token
from shared.runtime.clock import now

log = logging.getLogger("control")

REASON_LENGTH = 1000
RETRY_SECONDS = 2.0


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a configuration may send; 0 is unlimited, or the limit of ingress. Ingress holds clients to it."""

    messages_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    messages_per_hour: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    messages_per_day: Annotated[int, Meta(ge=0, le=10_000_000_000)] = 0
    recipients_per_message: Annotated[int, Meta(ge=0, le=10_000)] = 0
    message_bytes: Annotated[int, Meta(ge=0, le=1_073_741_824)] = 0


class Decisions:
    """Submits, approves, rejects; suspends and resumes."""

    def __init__(self, directory: Directory, notices: Notices) -> None:
        self._directory = directory
        self._notices = notices

    async def submit(
        self, caller: Caller, configuration: Configuration, answers: Mapping[str, object]
    ) -> Authorization:
        """Keep the questionnaire of a configuration, in place of one that is not decided or was rejected.

        Errors: `Refused`: 400 with every fault, 409 if sending is approved already.
        """
        questionnaire, faults = questions.check(answers)
        if questionnaire is None:
            raise bad_request(*faults)
        submitted = Authorization(
            configuration=configuration.id,
            instance=configuration.instance,
            status="submitted",
            questionnaire=questionnaire,
            submitted_at=now(),
        )
        key = f"authorization.{configuration.id}"

        def replaced(present: Authorization) -> Authorization:
            if present.status == "approved":
                raise conflict(
                    "authorization_approved", "sending is approved already; ask the operator for another decision"
                )
            return submitted

        try:
            await self._directory.create(key, submitted, caller.name, configuration.instance)
        except WrongSequence:
            found = await self._directory.change(key, Authorization, replaced, caller.name, configuration.instance)
            return found[0] if found else submitted
        return submitted

    async def approve(
        self,
        caller: Caller,
        configuration: Configuration,
        lane: Lane | None,
        quota: Quota,
        reason: str,
        submitted_at: datetime | None = None,
    ) -> Authorization:
        """Approve sending, with a lane and a quota; an approval may be given again with other ones.

        `submitted_at`: of the questionnaire that was read, if the caller says.
        Errors: `Refused`: 400, 409 if no questionnaire was submitted, or another one since.
        """
        _check_reason(reason)

        def decided(present: Authorization) -> Authorization:
            _check_read(present, submitted_at)
            by_nature: Lane = "marketing" if present.questionnaire.nature == "marketing" else "transactional"
            return msgspec.structs.replace(
                present,
                status="approved",
                decided_at=now(),
                decided_by=caller.name,
                reason=reason,
                lane=lane or by_nature,
                **msgspec.structs.asdict(quota),
            )

        return await self._decide(caller, configuration, decided)

    async def reject(
        self, caller: Caller, configuration: Configuration, reason: str, submitted_at: datetime | None = None
    ) -> Authorization:
        """Reject, or withdraw an approval; the customer reads the reason. The rest is as for `approve`."""
        _check_reason(reason, needed=True)

        def decided(present: Authorization) -> Authorization:
            _check_read(present, submitted_at)
            return msgspec.structs.replace(
                present, status="rejected", decided_at=now(), decided_by=caller.name, reason=reason
            )

        return await self._decide(caller, configuration, decided)

    async def _decide(
        self, caller: Caller, configuration: Configuration, edit: Callable[[Authorization], Authorization]
    ) -> Authorization:
        key = f"authorization.{configuration.id}"
        found = await self._directory.change(key, Authorization, edit, caller.name, configuration.instance)
        if found is None:
            raise conflict("authorization_missing", "no questionnaire has been submitted for this configuration yet")
        await self._tell_decision(configuration, found[0])
        return found[0]

    async def suspend(self, caller: Caller, configuration: Configuration, reason: str) -> Suspension:
        """Suspend sending, whatever DNS says; refused at ingress, held by delivery.

        Errors: `Refused` (400).
        """
        _check_reason(reason, needed=True)
        suspension = Suspension(configuration=configuration.id, reason=reason, by=caller.name, at=now())
        await self._directory.put(
            f"suspension.{configuration.id}", suspension, caller.name, configuration.instance
        )  # fmt: skip
        await self._tell_suspension(configuration, suspension)
        return suspension

    async def resume(self, caller: Caller, configuration: Configuration) -> None:
        """End an operator's suspension.

        Errors: `Refused`: 404 if there is none, 409 if the domain was lost to somebody who proved it theirs.
        """
        claim = await self._directory.fresh(f"domain.{token(configuration.domain)}", DomainClaim)
        if claim is not None and claim.record.configuration != configuration.id:
            raise conflict(
                "domain_lost", f"{configuration.domain} belongs to another configuration now, so this one cannot resume"
            )

        def ending(present: Suspension) -> Suspension:
            if present.ending_at is not None:
                return present
            return msgspec.structs.replace(present, ending_at=now(), ending_by=caller.name)

        key = f"suspension.{configuration.id}"
        found = await self._directory.change(key, Suspension, ending, caller.name, configuration.instance)
        if found is None:
            raise Refused(
                404, Fault("suspension_not_found", f"the operator has not suspended sending for {configuration.domain}")
            )
        await self._end(configuration, *found)

    async def _end(self, configuration: Configuration, suspension: Suspension, revision: int) -> None:
        """Tell the contacts, then delete: whoever dies in between leaves a suspension that says it is ending."""
        letter = letters.resumed(configuration.domain)
        at = suspension.ending_at or suspension.at
        await self._notices.tell(configuration, f"resumed {suspension.at}", at, *letter)
        key = f"suspension.{configuration.id}"
        try:
            await self._directory.delete(key, suspension.ending_by, configuration.instance, revision)
        except WrongSequence:
            present = await self._directory.fresh(key, Suspension)
            if present is not None:  # otherwise another control has finished it
                raise conflict(
                    "suspended_again", f"sending for {configuration.domain} was suspended again meanwhile"
                ) from None

    async def tell_again(self, since: datetime) -> None:
        """Ask once more for the notices of what was decided since then: a control that died may not have come to it.

        Whoever was told is not told twice, for the requests are the same. Suspensions that were being ended end.
        """
        for configuration in self._directory.all("configuration.", Configuration):
            authorization = self._directory.get(f"authorization.{configuration.id}", Authorization)
            if authorization is not None and authorization.decided_at is not None and authorization.decided_at >= since:
                await self._tell_decision(configuration, authorization)
            await self._finish(configuration, since)

    async def _finish(self, configuration: Configuration, since: datetime) -> None:
        """Tell of a suspension since then, and end one whose end was decided."""
        suspension = self._directory.get(f"suspension.{configuration.id}", Suspension)
        if suspension is None:
            return
        if suspension.at >= since:
            await self._tell_suspension(configuration, suspension)
        if suspension.ending_at is not None:
            await self._end_at_last(configuration, suspension)

    async def _end_at_last(self, configuration: Configuration, suspension: Suspension) -> None:
        """End a suspension however long the bus is away or full: nobody else will before the next start."""
        while True:
            try:
                await self._end(configuration, suspension, self._directory.revision(f"suspension.{configuration.id}"))
            except Refused:  # suspended again: that one stays
                return
            except (BusUnavailable, StoreFull) as fault:
                log.warning("%s: its suspension cannot be ended yet: %s", configuration.domain, fault)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _tell_decision(self, configuration: Configuration, decided: Authorization) -> None:
        at = decided.decided_at or decided.submitted_at
        letter = letters.decision(configuration.domain, decided)
        await self._notices.tell(configuration, f"{decided.status} {at}", at, *letter)

    async def _tell_suspension(self, configuration: Configuration, suspension: Suspension) -> None:
        letter = letters.suspended(configuration.domain, suspension)
        await self._notices.tell(configuration, f"suspended {suspension.at}", suspension.at, *letter)


def _check_read(present: Authorization, submitted_at: datetime | None) -> None:
    """Refuse to decide on answers that came in after those the operator has read."""
    if submitted_at is not None and submitted_at != present.submitted_at:
        raise conflict(
            "changed_meanwhile",
            f"other answers were handed in at {present.submitted_at.isoformat()}: read them, then decide",
        )


def _check_reason(reason: str, *, needed: bool = False) -> None:
    if needed and not reason.strip():
        raise bad_request(Fault("reason_missing", "say why: the customer reads it", "reason"))
    if len(reason) > REASON_LENGTH:
        raise bad_request(
            Fault("invalid_length", f"reason must have at most {REASON_LENGTH} characters", "reason")
        )  # fmt: skip
