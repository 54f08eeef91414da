"""Whom may this login send for, now and from here? Asked at MAIL and again when the message is there.

A login that was let in is let in again without a look at anything, until the directory or a standing changes or a date
comes on which something ends. Refusals are never remembered.
"""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from services.ingress.core import admission
from services.ingress.core.admission import Account
from services.ingress.core.refusal import Refusal
from services.ingress.directory import LATER_VERSION, Directory
from services.ingress.session import Login, Passage, SubmissionSession
from shared.mail import reply
from shared.mail.reply import Reply
from shared.runtime import clock


class Gatekeeper:
    """Decides with the directory; one per process."""

    def __init__(self, directory: Directory) -> None:
        """Ask a directory its owner has started."""
        self._directory = directory

    def admit(self, session: SubmissionSession, login: Login, domain: str, text: Reply) -> Passage | Refusal:
        """Let a login send for a domain, or refuse it; `text` is what it is told if the domain is not its own."""
        revision, now = self._directory.revision, clock.now()
        known = session.passages.get(domain)
        if known is not None and known.revision == revision and (known.until is None or now < known.until):
            return known
        accounts = self.entitled(session, login)
        if isinstance(accounts, Refusal):
            return accounts
        account = admission.select(accounts, domain)
        if account is None:
            return self._undecided() or admission.sender_refused(accounts, domain, text)
        if denied := self._denied(session, account):
            return denied
        configuration = account.configuration
        admitted = admission.gate(configuration, self._directory.gates(configuration.id))
        unread = self._directory.unread_of(configuration.id)
        if admission.is_open(admitted, unread):
            return owned(Refusal(reply.INTERNAL_FAULT, f"{LATER_VERSION}: {', '.join(unread)}"), account)
        if isinstance(admitted, Refusal):
            return admitted
        # Of all accounts: one that ends may be the one whose rules let the login in.
        passage = Passage(account, admitted, revision, _ends(self._directory.accounts(login.username), now))
        session.passages[domain] = passage
        return passage

    def entitled(self, session: SubmissionSession, login: Login) -> tuple[Account, ...] | Refusal:
        """Return the login's accounts whose password is still valid, if one of them may be used from this address."""
        accounts = admission.still_valid(self._directory.accounts(login.username), login.verified, clock.now())
        if not accounts:
            return Refusal(reply.CREDENTIALS_WITHDRAWN, "the user, its password or its configuration is gone")
        denials = [self._denied(session, account) for account in accounts]
        if all(denials):
            return denials[0] or accounts
        return accounts

    def _denied(self, session: SubmissionSession, account: Account) -> Refusal | None:
        denial = self._directory.denial(account, session.address, session.endpoint)
        if not denial:
            return None
        return owned(self._undecided() or Refusal(reply.ADDRESS_NOT_ALLOWED, denial), account)

    def _undecided(self) -> Refusal | None:
        """Nobody is refused for good by a directory of which a part cannot be read."""
        return Refusal(reply.INTERNAL_FAULT, LATER_VERSION) if self._directory.partly_read else None


def owned(refusal: Refusal, account: Account) -> Refusal:
    """Put a refusal into the feed of the tenant it belongs to."""
    configuration = account.configuration
    return msgspec.structs.replace(refusal, instance=configuration.instance, configuration=configuration.id)


def _ends(accounts: Iterable[Account], now: datetime) -> datetime | None:
    """Return when the first password or allow list of some accounts ends by itself, None if none does."""
    ends: list[datetime] = []
    for account in accounts:
        ends += [each.expires_at for each in account.user.passwords if each.expires_at and each.expires_at > now]
        until = account.configuration.allowed_until
        ends += [until] if until and until > now else []
    return min(ends, default=None)
