"""What a server offers in EHLO, and what follows for a message: whom it can be asked for, and with which parameters."""

from collections.abc import Iterable, Sequence

import msgspec

from services.delivery.core import outcome
from services.delivery.core.lines import in_ascii
from services.delivery.core.outcome import Outcome
from shared.contract.envelope import Envelope, Recipient
from shared.mail.address import Address, parse_address


class Offer(msgspec.Struct, frozen=True):
    """The extensions of a server, by keyword in lower case."""

    extensions: frozenset[str] = frozenset()
    size_limit: int | None = None
    """The largest message it takes, if it says so (RFC 1870 §4)."""


def suitable(
    offer: Offer, envelope: Envelope, octets: int, recipients: Sequence[Recipient], host: str
) -> tuple[list[tuple[Recipient, bytes]], dict[int, Outcome]]:
    """Return the recipients a server can serve with their paths, and what becomes of the others."""
    refusal: Outcome | None = None
    if offer.size_limit is not None and octets > offer.size_limit:
        said = f"the message has {octets} octets, {host} takes at most {offer.size_limit}"
        refusal = outcome.refused("5.3.4", said, "mail", "size", host=host)
    elif envelope.eight_bit and "8bitmime" not in offer.extensions:
        said = f"{host} does not take 8-bit content and converting it would break its signature"
        refusal = outcome.refused("5.6.3", said, "mail", "content", host=host)  # RFC 6152 §3
    elif (envelope.smtputf8 or not envelope.sender.isascii()) and "smtputf8" not in offer.extensions:
        said = f"{host} does not support internationalised mail (SMTPUTF8)"
        refusal = outcome.refused("5.6.7", said, "mail", "content", host=host)  # RFC 6531 §3.2
    served: list[tuple[Recipient, bytes]] = []
    decided: dict[int, Outcome] = {}
    for recipient in recipients:
        path = None if refusal is not None else _recipient_path(recipient, "smtputf8" in offer.extensions)
        if path is not None:
            served.append((recipient, path))
        else:
            said = f"{host} does not support internationalised addresses (SMTPUTF8)"
            decided[recipient.number] = refusal or outcome.refused("5.6.7", said, "rcpt", "content", host=host)
    return served, decided


def mail_words(offer: Offer, envelope: Envelope, octets: int, recipients: Iterable[Recipient]) -> list[bytes]:
    """Return what follows MAIL."""
    words = [b"FROM:" + _path(envelope.sender)]
    if "size" in offer.extensions:
        words.append(b"SIZE=%d" % octets)
    if envelope.eight_bit and "8bitmime" in offer.extensions:
        words.append(b"BODY=8BITMIME")
    if "smtputf8" in offer.extensions and (
        envelope.smtputf8
        or not envelope.sender.isascii()
        or not all(recipient.address.isascii() for recipient in recipients)
    ):
        words.append(b"SMTPUTF8")
    return words + _dsn_words(offer, (b"RET=", envelope.ret), (b"ENVID=", envelope.envid))


def rcpt_words(offer: Offer, recipient: Recipient, path: bytes) -> list[bytes]:
    """Return what follows RCPT."""
    return [b"TO:" + path, *_dsn_words(offer, (b"NOTIFY=", recipient.notify), (b"ORCPT=", recipient.orcpt))]


def _dsn_words(offer: Offer, *parameters: tuple[bytes, str]) -> list[bytes]:
    """Return parameters of RFC 3461, for a server that knows them."""
    if "dsn" not in offer.extensions:
        return []
    return [name + in_ascii(value).encode("ascii") for name, value in parameters if value]


def _path(address: str) -> bytes:
    return b"<" + address.encode() + b">"


def _recipient_path(recipient: Recipient, utf8: bool) -> bytes | None:
    """Return the path for RCPT, in A-labels where only the domain is not ASCII; None if SMTPUTF8 would be needed."""
    if utf8 or recipient.address.isascii():
        return _path(recipient.address)
    parsed = parse_address(recipient.address)
    if isinstance(parsed, Address) and parsed.local.isascii():
        return _path(f"{parsed.local}@{parsed.domain}")
    return None
