"""What goes out: the envelope and the signed octets."""

import msgspec

from shared.contract.envelope import Envelope


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A message as exchangers get it."""

    envelope: Envelope
    mail: bytes
    pool: str = ""
    """Name of the configuration's pool of outgoing addresses."""
