"""Whether a configuration's mail may go on its way right now; otherwise why it is held.

Delivery does not decide who may send: it obeys what control and the verifier have decided, the stricter of the two.
"""

import msgspec

from shared.contract.envelope import HELD_BY_OPERATOR
from shared.contract.records import Authorization, Configuration, Suspension
from shared.contract.standing import Standing

BY_OPERATOR = HELD_BY_OPERATOR
"""Held one by one through a queue operation; only a queue operation releases it."""
NOT_KNOWN = "configuration-unknown"
SUSPENDED_BY_OPERATOR = "suspended-by-operator"
NOT_AUTHORISED = "not-authorised"
SUSPENDED_FOR_DNS = "suspended-for-dns"
NOT_VERIFIED = "not-verified"
LATER_VERSION = "later-version"


class Hold(msgspec.Struct, frozen=True):
    """Why mail waits: a stable word and a sentence for people."""

    reason: str
    sentence: str
    by_relay: bool = False
    """Whoever runs the relay holds this one message, and nobody else releases it."""


UNREAD = Hold(
    LATER_VERSION, "A later version of Postlane wrote what decides about this message; it waits until that can be read."
)


def gate(
    configuration: Configuration | None,
    authorization: Authorization | None,
    suspension: Suspension | None,
    standing: Standing | None,
) -> Hold | None:
    """Return why the mail of a configuration is held, or None if it may go."""
    if configuration is None:
        return Hold(NOT_KNOWN, "The configuration no longer exists; the message waits until it expires.")
    domain = configuration.domain
    if suspension is not None:
        why = suspension.reason or "no reason given"
        return Hold(SUSPENDED_BY_OPERATOR, f"Sending for {domain} is suspended by the operator: {why}.")
    if authorization is None or authorization.status != "approved":
        return Hold(NOT_AUTHORISED, f"Sending for {domain} is not authorised by the operator.")
    if standing is None or standing.state == "pending":
        return Hold(NOT_VERIFIED, f"The DNS records of {domain} have not been verified yet.")
    if standing.state == "suspended":
        why = standing.reason.rstrip(".") or "its DNS records are missing"
        return Hold(SUSPENDED_FOR_DNS, f"Sending for {domain} is suspended: {why}.")
    return None
