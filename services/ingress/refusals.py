"""Refusals: each gets a reference the client can quote, and an event with the true reason."""

import secrets

import msgspec

from services.ingress.allowance import Allowance
from services.ingress.core.refusal import Refusal
from services.ingress.journal import Journal, Posting
from services.ingress.settings import IngressSettings
from shared.contract import subjects
from shared.contract.events import SubmissionRefused
from shared.mail.ids import new_reference
from shared.runtime import clock


class Party(msgspec.Struct, frozen=True):
    """Who was refused, as far as it is known."""

    username: str = ""
    client_address: str = ""
    client_name: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()


class Refusals:
    """Publishes refusals through a journal; those of strangers are limited per address."""

    def __init__(self, journal: Journal, settings: IngressSettings) -> None:
        """Publish through `journal`, which its owner starts and settles."""
        self._journal = journal
        self._allowance = Allowance(settings.refusal_events_per_minute)
        self.withheld = 0

    def record(self, refusal: Refusal, phase: str, party: Party) -> str:
        """Mint a reference for a refusal and publish what happened; return the reference."""
        reference = new_reference(secrets.token_bytes(7))
        stranger = not refusal.instance or phase == "auth"
        if stranger and not self._allowance.take(party.client_address):
            self.withheld += 1
            return reference
        event = SubmissionRefused(
            id=reference,
            at=clock.now(),
            reference=reference,
            code=refusal.reply.code,
            enhanced=refusal.reply.enhanced,
            reply=refusal.reply.text,
            reason=refusal.reason,
            phase=phase,
            instance=refusal.instance,
            configuration=refusal.configuration,
            username=party.username,
            client_address=party.client_address,
            client_name=party.client_name,
            sender=party.sender,
            recipients=party.recipients,
        )
        subject = subjects.refused(refusal.instance, refusal.configuration)
        self._journal.post(Posting(subject, "REFUSALS", reference, msgspec.json.encode(event)))
        return reference
