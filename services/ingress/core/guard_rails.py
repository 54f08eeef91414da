"""A user's own limits, besides its configuration's: whom it may name as sender or recipient, from where it may come."""

from functools import lru_cache
from ipaddress import ip_network

from services.ingress.core.access import IpAddress
from services.ingress.core.refusal import Refusal
from shared.contract.envelope import Staging
from shared.contract.records import User
from shared.mail import reply
from shared.mail.address import Address
from shared.mail.reply import Reply

NETWORKS_KEPT = 4_096


def network_denial(user: User, address: IpAddress | None) -> str:
    """Return "" if the user may come from this address, else the reason, for the tenant's eyes."""
    if not user.networks:
        return ""
    if address is not None and any(_covers(network, address) for network in user.networks):
        return ""
    return f"the user {user.username} may only come from {', '.join(user.networks)}, not from {address}"


def sender_refused(user: User, sender: Address, text: Reply = reply.SENDER_NOT_OF_USER) -> Refusal | None:
    """Refuse a sender, of the envelope or of From, that the user may not use."""
    if not user.senders or matches(user.senders, sender):
        return None
    return Refusal(
        text.with_(sender=reply.printable(sender.written)),
        f"the user {user.username} may only send as {', '.join(user.senders)}",
        user.instance,
        user.configuration,
    )


def recipient_refused(user: User, recipient: Address) -> Refusal | None:
    """Refuse a recipient the user may not write to."""
    if not user.recipients or matches(user.recipients, recipient):
        return None
    return Refusal(
        reply.RECIPIENT_NOT_OF_USER.with_(recipient=reply.printable(recipient.written)),
        f"the user {user.username} may only write to {', '.join(user.recipients)}",
        user.instance,
        user.configuration,
    )


def staging(user: User) -> Staging | None:
    """Return what becomes of the user's mail, None if it is simply delivered."""
    if user.staging == "deliver":
        return None
    return Staging(mode=user.staging, redirect_to=user.redirect_to, allowed=user.staging_allowed)


def matches(patterns: tuple[str, ...], address: Address) -> bool:
    """Whether an address is one of the patterns; `*` stands for any characters, and letters match in any case."""
    text = f"{address.local}@{address.domain}".lower()
    return any(_matches(pattern.lower(), text) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    """Match each fixed piece at its first place: the work grows with the text, however many stars there are."""
    first, *pieces = pattern.split("*")
    if not pieces:
        return text == pattern
    last = pieces.pop()
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in pieces:
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


@lru_cache(NETWORKS_KEPT)
def _covers(network: str, address: IpAddress) -> bool:
    try:
        return address in ip_network(network, strict=False)
    except ValueError:
        return False
