"""Refusals: each gets a reference the client can quote, and an event with the true reason."""

import secrets

import msgspec

from services.ingress.allowance import Allowance
from services.ingress.core.access import source_named
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
    """Publishes refusals through a journal: of strangers so many per address, of a tenant so many in all.

    Otherwise one of them could crowd out the refusals of all others.
    """

    def __init__(self, journal: Journal, settings: IngressSettings) -> None:
        """Publish through `journal`, which its owner starts and settles."""
        self._journal = journal
        self._strangers = Allowance(settings.refusal_events_per_minute)
        self._tenants = Allowance(settings.tenant_refusal_events_per_minute)

    def record(self, refusal: Refusal, phase: str, party: Party) -> tuple[str, bool]:
        """Mint a reference for a refusal and publish what happened; return the reference, and whether it was told."""
        reference = new_reference(secrets.token_bytes(7))
        stranger = not refusal.instance or phase == "auth"
        allowed = (
            self._strangers.take(source_named(party.client_address))
            if stranger
            else self._tenants.take(refusal.instance)
        )
        if not allowed:
            return reference, False
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
        return reference, True
