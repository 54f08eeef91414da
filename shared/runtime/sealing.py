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


def read_master_key(file: Path) -> bytes:
    """Read a master key file.

    Errors: `SealBroken` if the file does not hold 32 octets in base64; `OSError` if it cannot be read.
    """
    try:
        key = base64.b64decode(file.read_text().strip(), validate=True)
    except binascii.Error as fault:
        raise SealBroken(f"{file} does not hold base64") from fault
    if len(key) != KEY_BYTES:
        raise SealBroken(f"{file} must hold {KEY_BYTES} octets in base64, it holds {len(key)}")
    return key


def seal(master_key: bytes, plain: bytes, context: str) -> str:
    """Return `plain` sealed for `context`, in base64."""
    nonce = os.urandom(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(master_key).encrypt(nonce, plain, context.encode())).decode()


def unseal(master_key: bytes, sealed: str, context: str) -> bytes:
    """Return what was sealed for `context`.

    Errors: `SealBroken`.
    """
    try:
        raw = base64.b64decode(sealed, validate=True)
        return AESGCM(master_key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], context.encode())
    except (binascii.Error, InvalidTag, ValueError) as fault:
        raise SealBroken(f"cannot unseal {context}: was the master key replaced?") from fault
