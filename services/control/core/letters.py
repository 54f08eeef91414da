"""What control tells a tenant's contacts by mail: subject and text of each occasion."""

from typing import NamedTuple

from shared.contract.records import Authorization, Suspension


class Letter(NamedTuple):
    """A mail in plain text."""

    subject: str
    text: str


def decision(domain: str, authorization: Authorization) -> Letter:
    """Return the operator's decision on a questionnaire."""
    because = f"\nThe operator says: {authorization.reason}\n" if authorization.reason else ""
    if authorization.status == "approved":
        return Letter(
            f"{domain}: sending is approved",
            f"The operator has approved sending for {domain}.\n\n{_allowance(authorization)}\n{because}\n"
            "Mail is accepted as soon as the SPF and DKIM records are verified too. What is still missing:\n"
            f"  postlane domain show {domain}\n",
        )
    return Letter(
        f"{domain}: sending is not approved",
        f"The operator has not approved sending for {domain}.\n{because}\n"
        "Change the answers of the questionnaire and hand it in again:\n"
        f"  postlane domain authorize {domain} --from-file answers.toml\n",
    )


def suspended(domain: str, suspension: Suspension) -> Letter:
    """Return that the operator has suspended sending."""
    return Letter(
        f"{domain}: the operator has suspended sending",
        f"The operator has suspended sending for {domain}.\n\nThe operator says: {suspension.reason}\n\n"
        "New mail is refused, and queued mail is held until the suspension ends or its time is over. Only the operator "
        "can end it; DNS does not matter to it.\n",
    )


def resumed(domain: str) -> Letter:
    """Return that the operator's suspension has ended."""
    return Letter(
        f"{domain}: the operator's suspension has ended",
        f"The operator has ended the suspension of {domain}. Mail that was held is being sent, and new mail is "
        f"accepted if nothing else is missing:\n  postlane domain show {domain}\n",
    )


def _allowance(authorization: Authorization) -> str:
    limits = [
        f"{limit} messages per {unit}"
        for limit, unit in (
            (authorization.messages_per_second, "second"),
            (authorization.messages_per_hour, "hour"),
            (authorization.messages_per_day, "day"),
        )
        if limit
    ]
    return (
        f"It is sent as {authorization.lane} mail, {' and '.join(limits) if limits else 'without a limit of number'}."
    )
