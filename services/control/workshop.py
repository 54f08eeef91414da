"""What costs processor time: Argon2id hashes and RSA keys, made in a few threads beside the event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher, Type
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from services.control.settings import ControlSettings

RSA_BITS = 2048  # RFC 8301 §3.2; longer keys do not fit the TXT value of IBM's API
RSA_EXPONENT = 65537


class Workshop:
    """A bounded pool of threads; closed by its owner."""

    def __init__(self, settings: ControlSettings) -> None:
        self._threads = ThreadPoolExecutor(settings.hashing_threads, thread_name_prefix="workshop")
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_parallelism,
            type=Type.ID,
        )

    async def hash(self, password: str) -> str:
        """Return the Argon2id hash of a password, with its parameters, in PHC form."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    def outdated(self, hashed: str) -> bool:
        """Whether a hash was made with other parameters than those of the settings."""
        return self._hasher.check_needs_rehash(hashed)

    async def dkim_key(self) -> tuple[bytes, bytes]:
        """Return a new RSA key: private in PKCS#8 DER, public as SubjectPublicKeyInfo DER."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _new_rsa_key)

    async def ed25519_key(self) -> tuple[bytes, bytes]:
        """Return a new Ed25519 key: private in PKCS#8 DER, public as its 32 octets."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _new_ed25519_key)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _new_rsa_key() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=RSA_EXPONENT, key_size=RSA_BITS)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _new_ed25519_key() -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes_raw()
