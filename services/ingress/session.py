"""A session and its transaction: what aiosmtpd calls Session and Envelope, with what ingress keeps in them."""

import asyncio
from datetime import datetime
from typing import Literal

import msgspec
from aiosmtpd import smtp

from services.ingress.core.access import IpAddress
from services.ingress.core.admission import Account, Admitted
from services.ingress.core.commands import Destination, Sender

Endpoint = Literal["public", "private"]


class Login(msgspec.Struct, frozen=True):
    """A successful login: the username, and the password hashes it was verified against."""

    username: str
    verified: frozenset[str]
    instance: str = ""
    """Whose user it is."""


class Passage(msgspec.Struct, frozen=True):
    """A login let in to send for one domain, as the directory was at `revision`."""

    account: Account
    admitted: Admitted
    revision: int
    until: datetime | None
    """When something it rests on may end by itself."""


class SubmissionSession(smtp.Session):
    """One connection, from its greeting to its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
        """Start as a stranger in clear."""
        super().__init__(loop)
        self.endpoint: Endpoint = endpoint
        self._address: IpAddress | None = None
        self._address_text = ""
        self.tls = ""
        """Version and cipher, "" in clear."""
        self.greeted_in_clear = False
        """An EHLO came before TLS. Nothing of it counts (RFC 3207 §4.2) but that the client is one that greets."""
        self.login: Login | None = None
        self.passages: dict[str, Passage] = {}
        """By sender domain; `Gatekeeper` says whether one still holds."""
        self.use_noted = ("", 0.0)
        """Whose password was noted as used last, and when."""
        self.accepted = 0
        self.refused = 0
        self.transactions = 0

    @property
    def address(self) -> IpAddress | None:
        """The client's address, None if it is not known."""
        return self._address

    @address.setter
    def address(self, address: IpAddress | None) -> None:
        self._address = address
        self._address_text = "" if address is None else str(address)

    @property
    def client_address(self) -> str:
        """The client's address as text, "" if it is not known."""
        return self._address_text

    @property
    def greeted(self) -> bool:
        """Whether EHLO was said; `openssl s_client -starttls smtp` says it in clear only, and types on in TLS."""
        return bool(self.extended_smtp or self.greeted_in_clear)

    @property
    def client_name(self) -> str:
        """The name given in EHLO, "" before it."""
        return self.host_name or ""


class Transaction(smtp.Envelope):
    """One mail transaction; a new one replaces it at its end, whatever the end was."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.sender: Sender | None = None
        self.account: Account | None = None
        """Whom the message is sent for; None for the null sender until the header From is known."""
        self.admitted: Admitted | None = None
        self.recipients: list[Destination] = []
        self.recipient_octets = 0
        """What the recipients take in the envelope."""
        self._known: set[str] = set()

    def add(self, destination: Destination) -> None:
        """Take in a recipient."""
        self.recipients.append(destination)
        self.recipient_octets += destination.octets
        self._known.add(destination.address.written)

    def is_known(self, address: str) -> bool:
        """Whether this very address is a recipient already."""
        return address in self._known
