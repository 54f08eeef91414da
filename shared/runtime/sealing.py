"""Seals secrets at rest with the master key: AES-256-GCM, bound to a context so that they cannot be swapped."""

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.contract.errors import PostlaneError

KEY_BYTES = 32
NONCE_BYTES = 12


class SealBroken(PostlaneError):
    """A sealed secret cannot be opened: another master key, another context, or damage."""


def new_master_key() -> str:
    """Return a fresh master key in base64, as it is kept in a file."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class MasterKey(bytes):
    """The key that seals, as its 32 octets; what was sealed with one of the `former` keys is opened all the same."""

    former: tuple[bytes, ...] = ()

    @property
    def every(self) -> tuple[bytes, ...]:
        """The present key, then the former ones."""
        return (self, *self.former)


def read_master_key(file: Path) -> MasterKey:
    """Read a master key file: the present key on the first line, former ones below it during a rotation.

    Errors: `SealBroken` if a line does not hold 32 octets in base64; `OSError` if it cannot be read.
    """
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip()] or [""]
    keys: list[bytes] = []
    for line in lines:
        try:
            key = base64.b64decode(line, validate=True)
        except binascii.Error as fault:
            raise SealBroken(f"{file} does not hold base64") from fault
        if len(key) != KEY_BYTES:
            raise SealBroken(f"each line of {file} must hold {KEY_BYTES} octets in base64, one holds {len(key)}")
        keys.append(key)
    master_key = MasterKey(keys[0])
    master_key.former = tuple(keys[1:])
    return master_key


def seal(master_key: bytes, plain: bytes, context: str) -> str:
    """Return `plain` sealed for `context`, in base64."""
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(master_key).encrypt(nonce, plain, context.encode())).decode()


def unseal(master_key: bytes, sealed: str, context: str) -> bytes:
    """Return what was sealed for `context`, with the key or one it replaced.

    Errors: `SealBroken`.
    """
    try:
        raw = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise SealBroken(f"cannot unseal {context}: it is not base64") from fault
    for key in master_key.every if isinstance(master_key, MasterKey) else (master_key,):
        try:
            return AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], context.encode())
        except (InvalidTag, ValueError):
            continue
    raise SealBroken(f"cannot unseal {context}: was the master key replaced?")
