"""One attempt at a message: who is not tried at all, what is staged, and the signed rest on its way."""

import logging

import msgspec

from services.delivery.captures import Captures
from services.delivery.core import dkim, outcome, staging, step
from services.delivery.core.outcome import Deferred, Outcome
from services.delivery.dispatch import Attempted, Dispatch
from services.delivery.gates import Gates
from services.delivery.intents import Intents
from services.delivery.interim import Interim
from services.delivery.message import Message
from services.delivery.parcel import Parcel
from services.delivery.signer import NoKey, Signer
from services.delivery.suppressions import Suppressions
from shared.contract.envelope import Recipient
from shared.runtime import clock

log = logging.getLogger("delivery")


class Attempts:
    """Makes attempts; what they came to is recorded by whoever asked."""

    def __init__(
        self,
        gates: Gates,
        signer: Signer,
        dispatch: Dispatch,
        suppressions: Suppressions,
        captures: Captures,
        intents: Intents,
    ) -> None:
        self._gates = gates
        self._signer = signer
        self._dispatch = dispatch
        self._suppressions = suppressions
        self._captures = captures
        self._intents = intents

    async def make(
        self, message: Message, state: step.Known, decided_before: dict[int, Outcome], interim: Interim
    ) -> Attempted | None:
        """Make the attempt; None if it stopped before anything was decided, so that nothing is to be committed.

        What some destinations decide while others take their time is committed in the `interim`.

        Errors: `BusUnavailable`.
        """
        envelope = message.carriage.envelope
        decided = dict(decided_before)
        open_numbers = {r.number for r in state.open} - decided.keys()
        recipients = self._unsuppressed(message, [r for r in envelope.recipients if r.number in open_numbers], decided)
        plan = staging.plan(envelope.staging, recipients)
        states = {r.number: r for r in state.recipients}
        for recipient in plan.simulate:
            decided[recipient.number] = staging.simulated(recipient, states[recipient.number])
        leaving, mail = list(plan.deliver), message.mail
        if plan.redirect and envelope.staging is not None:
            leaving = [staging.stand_in(envelope.staging, plan.redirect)]
            mail = staging.labelled(mail, plan.redirect)
        if not leaving and not plan.capture:
            return Attempted(outcomes=decided, tried=(), dots=0)
        signed = await self._signed(message, mail)
        if not isinstance(signed, bytes):
            unsigned = (*leaving, *plan.capture, *plan.redirect)
            return Attempted(outcomes=decided | dict.fromkeys((r.number for r in unsigned), signed), tried=(), dots=0)
        if plan.capture:
            kept = await self._captures.keep(envelope, plan.capture, signed)
            decided |= dict.fromkeys((r.number for r in plan.capture), kept)
        leaving = self._unsuppressed(message, leaving, decided) if plan.redirect else leaving
        if not leaving:
            shared = decided.get(plan.redirect[0].number) if plan.redirect else None
            meant = {r.number: shared for r in plan.redirect if shared is not None}
            return Attempted(outcomes=decided | meant, tried=(), dots=0)
        attempted = await self._sent(message, interim, leaving, signed)
        if attempted is None:
            return None
        outcomes = dict(attempted.outcomes)
        if plan.redirect:
            outcomes = dict.fromkeys((r.number for r in plan.redirect), outcomes[leaving[0].number])
        return msgspec.structs.replace(attempted, outcomes=decided | outcomes)

    def _unsuppressed(
        self, message: Message, recipients: list[Recipient], decided: dict[int, Outcome]
    ) -> list[Recipient]:
        """Return those that are not on the suppression list; the others are decided."""
        for recipient in recipients:
            entry = self._suppressions.find(message.carriage.envelope.configuration, recipient.address)
            if entry is not None:
                said = f"the address is on the suppression list since {entry.at:%Y-%m-%d}: {entry.reason}"
                decided[recipient.number] = outcome.suppressed(said)
        return [r for r in recipients if r.number not in decided]

    async def _signed(self, message: Message, mail: bytes) -> bytes | Outcome:
        """Return a mail with its signatures, or what becomes of all recipients if there can be none."""
        envelope = message.carriage.envelope
        try:
            return await self._signer.signed(mail, envelope.configuration, clock.now_ms() // 1000)
        except NoKey as fault:
            log.error("not sent, for it cannot be signed: %s", fault, extra={"queue_id": envelope.queue_id})
            return outcome.ours("4.3.5", "the message cannot be signed now, and is never sent unsigned")
        except dkim.NotSignable as fault:
            return outcome.refused("5.6.0", str(fault), "policy", "content")

    async def _sent(
        self, message: Message, interim: Interim, recipients: list[Recipient], signed: bytes
    ) -> Attempted | None:
        envelope = message.carriage.envelope
        configuration = self._gates.configuration(envelope.configuration)
        pool = configuration.egress_pool if configuration is not None else ""
        announced = configuration is not None and configuration.at_most_once  # in its STATUS record
        refused = False

        async def may_finish() -> bool:
            nonlocal refused
            declared = announced or await self._intents.declare(envelope, interim.attempt)
            certain = declared and message.lease.may_finish()
            refused = refused or not certain
            return certain

        parcel = Parcel(envelope=envelope, mail=signed, pool=pool)
        attempted = await self._dispatch.attempt(parcel, recipients, may_finish, interim.commit)
        message.dots += attempted.dots
        if attempted.dots == 0 and (refused or not message.lease.may_finish()) and _all_open(attempted):
            return None
        return attempted


def _all_open(attempted: Attempted) -> bool:
    return all(isinstance(result, Deferred) for result in attempted.outcomes.values())
