"""Verification of passwords: Argon2id in a few threads of low priority, and a cache of what was verified.

Unknown user, wrong password and disallowed address take the same way and the same time; the caller gives them the
same answer. The cache holds keyed hashes under a key that lives and dies with the process.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import argon2

from services.ingress.core.admission import Account, live_hashes
from services.ingress.core.sasl import Attempt
from services.ingress.settings import IngressSettings

OWASP = argon2.Parameters(
    type=argon2.Type.ID, version=19, salt_len=16, hash_len=32, time_cost=2, memory_cost=19_456, parallelism=1
)
LOW_PRIORITY = 10
HASHES_TRIED = 20
"""Distinct hashes of one username that are tried; clones share a hash, a rotation has two."""


class Busy(Exception):
    """A password cannot be verified at the moment; says why."""


class Credentials:
    """Verifies passwords; closed by its owner."""

    def __init__(self, settings: IngressSettings) -> None:
        """Start the threads."""
        self._key = secrets.token_bytes(32)
        self._cache: OrderedDict[bytes, tuple[str, frozenset[str]]] = OrderedDict()
        self._cached_of: dict[str, set[bytes]] = {}
        self._capacity = settings.login_cache
        self._queue_limit = settings.login_queue
        self._waiting = 0
        threads = settings.login_threads or _half_of_the_cores()
        self._pool = ThreadPoolExecutor(threads, "argon2", initializer=_yield_to_mail)
        self._parameters = OWASP
        self.dummy = _dummy(OWASP)
        self.hits = 0
        self.verified = 0

    def close(self) -> None:
        """Stop the threads once they have finished what they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def cached(self, attempt: Attempt, accounts: tuple[Account, ...], at: datetime) -> frozenset[str]:
        """Return the live hashes this password is known to match, empty if it has to be verified."""
        if not attempt.usable:
            return frozenset()
        key = self._fingerprint(attempt)
        entry = self._cache.get(key)
        if entry is None:
            return frozenset()
        self._cache.move_to_end(key)
        matching = entry[1] & _hashes(accounts, at)
        self.hits += bool(matching)
        return matching

    async def verify(self, attempt: Attempt, accounts: tuple[Account, ...], at: datetime) -> frozenset[str]:
        """Return the live hashes the password matches; an unknown user costs as much as a known one.

        Errors: `Busy` if too many wait already, or there is no memory for it.
        """
        if self._waiting >= self._queue_limit:
            raise Busy("the queue of logins to verify is full")
        hashes = sorted(_hashes(accounts, at))[:HASHES_TRIED] if attempt.usable else []
        if hashes:
            self._learn(hashes[0])
        self._waiting += 1
        try:
            matching = await asyncio.get_running_loop().run_in_executor(
                self._pool, _matching, hashes or [self.dummy], attempt.password
            )
        finally:
            self._waiting -= 1
        self.verified += 1
        if not hashes:
            return frozenset()
        if matching:
            self._remember(attempt, matching)
        return matching

    def drop(self, username: str) -> None:
        """Forget what was verified for a username, because its users changed."""
        for key in self._cached_of.pop(username, ()):
            self._cache.pop(key, None)

    def _fingerprint(self, attempt: Attempt) -> bytes:
        message = b"%d:%b%b" % (len(attempt.username), attempt.username.encode(), attempt.password.encode())
        return hmac.digest(self._key, message, hashlib.sha256)

    def _remember(self, attempt: Attempt, matching: frozenset[str]) -> None:
        key = self._fingerprint(attempt)
        self._cache[key] = (attempt.username, matching)
        self._cached_of.setdefault(attempt.username, set()).add(key)
        while len(self._cache) > self._capacity:
            oldest, (username, _) = self._cache.popitem(last=False)
            keys = self._cached_of.get(username, set())
            keys.discard(oldest)
            if not keys:
                self._cached_of.pop(username, None)

    def _learn(self, example: str) -> None:
        # The dummy of unknown users must cost what the hashes in the directory cost.
        try:
            parameters = argon2.extract_parameters(example)
        except argon2.exceptions.InvalidHashError:
            return
        if parameters != self._parameters:
            self._parameters = parameters
            self.dummy = _dummy(parameters)


def _hashes(accounts: tuple[Account, ...], at: datetime) -> frozenset[str]:
    return frozenset[str]().union(*(live_hashes(account.user, at) for account in accounts))


def _matching(hashes: list[str], password: str) -> frozenset[str]:
    found = set()
    for each in hashes:
        try:
            if _HASHER.verify(each, password):
                found.add(each)
        except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
            continue
        except argon2.exceptions.VerificationError as fault:  # not a wrong password: Argon2 wants much memory
            raise Busy(f"no password can be verified: {fault}") from fault
    return frozenset(found)


_HASHER = argon2.PasswordHasher()


def _dummy(parameters: argon2.Parameters) -> str:
    """Write a hash no password has, at the cost of real ones; nothing is computed for it."""
    cost = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    salt, digest = (_base64(secrets.token_bytes(length)) for length in (parameters.salt_len, parameters.hash_len))
    return f"$argon2id$v={parameters.version}${cost}${salt}${digest}"


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode().rstrip("=")


def _half_of_the_cores() -> int:
    # The other half is for mail, also that of others: with all cores verifying, sessions waited twice as long.
    return max(1, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else 1


def _yield_to_mail() -> None:
    # On Linux a thread has a priority of its own: sessions go before verifications.
    if hasattr(os, "setpriority"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
