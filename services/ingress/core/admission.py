"""May this login send for this domain now? The gates of directory and standing, over values.

Order (design §4): the credentials are still valid, the address is still allowed, the sender domain selects one
configuration, and that configuration's gates are open.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

import msgspec

from services.ingress.core.quota import Rates
from services.ingress.core.refusal import Refusal
from shared.contract.records import Authorization, Configuration, Lane, Suspension, User
from shared.contract.standing import Standing
from shared.mail import reply
from shared.mail.reply import Reply

DETAIL_LIMIT = 280
"""Characters of explanation put into a reply, so that its reference always fits."""


class Account(msgspec.Struct, frozen=True):
    """A user together with the configuration it belongs to."""

    user: User
    configuration: Configuration


class Gates(msgspec.Struct, frozen=True):
    """Everything that opens or closes sending for one configuration."""

    standing: Standing | None
    authorization: Authorization | None
    suspension: Suspension | None


class Admitted(msgspec.Struct, frozen=True):
    """Mail may come in; `held` says delivery will keep it until the DNS is repaired."""

    lane: Lane
    held: bool = False
    rates: Rates = Rates()
    """The approved quotas."""
    recipients: int = 0
    """Most recipients of a message; 0: the setting of ingress."""
    message_bytes: int = 0
    """Largest message; 0: the setting of ingress."""
    held_since: datetime | None = None
    """When the suspension began that holds the mail."""


def live_hashes(user: User, at: datetime) -> frozenset[str]:
    """Return the hashes of a user's passwords that have not expired."""
    return frozenset(p.hash for p in user.passwords if p.expires_at is None or p.expires_at > at)


def still_valid(accounts: Iterable[Account], verified: frozenset[str], at: datetime) -> tuple[Account, ...]:
    """Return the accounts for which a password verified earlier is still a live one."""
    return tuple(account for account in accounts if live_hashes(account.user, at) & verified)


def select(accounts: Iterable[Account], domain: str) -> Account | None:
    """Return the account whose configuration has this sender domain; a sub-domain is a domain of its own."""
    return next((account for account in accounts if account.configuration.domain == domain), None)


def sender_refused(accounts: Iterable[Account], domain: str, text: Reply = reply.SENDER_NOT_ALLOWED) -> Refusal:
    """Refuse a sender domain none of the accounts has, in the feed of the instance the login belongs to."""
    known = tuple(accounts)
    own = ", ".join(account.configuration.domain for account in known)
    reason = f"the domain {domain or '(none)'} is not the domain of a configuration of this username ({own})"
    first = known[0].configuration if len(known) == 1 else None
    return Refusal(
        text.with_(domain=domain or "(none)"),
        reason,
        known[0].configuration.instance if known else "",
        first.id if first else "",
    )


def is_open(decision: Admitted | Refusal, unread: Collection[str]) -> bool:
    """Whether a decision may yet turn out otherwise, by records that only a later version can read.

    What is refused may be allowed there, and only an unread suspension can stop what is allowed.
    """
    return "suspension" in unread or (bool(unread) and isinstance(decision, Refusal))


def gate(configuration: Configuration, gates: Gates) -> Admitted | Refusal:
    """Decide whether a configuration may send now; the stricter of operator and DNS wins."""

    def refused(text: Reply, reason: str) -> Refusal:
        return Refusal(text, reason, configuration.instance, configuration.id)

    domain = configuration.domain
    if gates.suspension is not None:
        text = reply.SUSPENDED_OPERATOR.with_(domain=domain, reason=gates.suspension.reason[:DETAIL_LIMIT])
        return refused(text, f"suspended by {gates.suspension.by}: {gates.suspension.reason}")
    lacking = missing(gates)
    state = gates.standing.state if gates.standing else "pending"
    approved = gates.authorization is not None and gates.authorization.status == "approved"
    if approved and gates.standing is None:  # nothing is wrong with it as far as we know: we have not looked yet
        return refused(reply.NOT_CHECKED.with_(domain=domain, missing=lacking[:DETAIL_LIMIT]), lacking)
    if gates.authorization is None or not approved or state == "pending":
        return refused(reply.NOT_VERIFIED.with_(domain=domain, missing=lacking[:DETAIL_LIMIT]), lacking)
    if state == "suspended" and configuration.when_suspended == "refuse":
        return refused(reply.SUSPENDED_DNS.with_(domain=domain, missing=lacking[:DETAIL_LIMIT]), lacking)
    since = gates.standing.since if gates.standing and state == "suspended" else None
    granted = gates.authorization
    return Admitted(
        granted.lane,
        since is not None,
        Rates(granted.messages_per_second, granted.messages_per_hour, granted.messages_per_day),
        granted.recipients_per_message,
        granted.message_bytes,
        since,
    )


def missing(gates: Gates) -> str:
    """Name what is lacking before a configuration may send, as clauses joined by `; `."""
    clauses: list[str] = []
    standing = gates.standing
    if standing is None:
        clauses.append("SPF and DKIM records have not been checked yet")
    elif standing.state in ("pending", "suspended"):
        seen = (("SPF", standing.spf), ("DKIM", standing.dkim))
        clauses += [f"{name}: {record.detail}" for name, record in seen if record and record.verdict != "pass"]
        if not clauses:
            clauses.append(standing.reason or "SPF and DKIM records are not verified")
    authorization = gates.authorization
    if authorization is None:
        clauses.append("the authorization questionnaire has not been submitted")
    elif authorization.status == "submitted":
        clauses.append("the operator has not approved sending yet")
    elif authorization.status == "rejected":
        clauses.append(f"the operator has rejected sending: {authorization.reason or 'no reason given'}")
    return "; ".join(clauses)
