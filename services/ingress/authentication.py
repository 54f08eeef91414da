"""Logins: verification, access rules and patience in one verdict, the same for every kind of failure."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from services.ingress.core.access import IpAddress, network_of, source_of
from services.ingress.core.patience import Patience, PatiencePolicy
from services.ingress.core.refusal import Refusal
from services.ingress.core.sasl import Attempt
from services.ingress.credentials import Busy, Credentials
from services.ingress.directory import LATER_VERSION, Directory
from services.ingress.metrics import Metrics
from services.ingress.session import Login, SubmissionSession
from services.ingress.settings import IngressSettings
from shared.mail import reply
from shared.runtime import clock

FAMILIAR_PAIRS = 100_000
DIGEST_BYTES = 12
"""Size of the digests failures are counted under: what strangers type is not passed on."""


class Authentication:
    """Turns an attempt into a login or a refusal. Whoever logged in from an address before is not held up by others."""

    def __init__(
        self, directory: Directory, credentials: Credentials, metrics: Metrics, settings: IngressSettings
    ) -> None:
        """Use the directory and the credentials of the process."""
        self._directory = directory
        self._credentials = credentials
        self._metrics = metrics
        self._floor = settings.failed_login_seconds
        self._at_once = settings.logins_per_key
        self.patience = Patience(
            PatiencePolicy(
                base_seconds=settings.failed_login_delay_seconds,
                cap_seconds=settings.failed_login_delay_cap_seconds,
                half_life_seconds=settings.failed_login_half_life_seconds,
            )
        )
        self._familiar: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._under_way: Counter[str] = Counter()

    async def login(self, session: SubmissionSession, attempt: Attempt) -> Login | Refusal:
        """Verify an attempt; a failure takes the same time whatever its reason, a known client waits for nobody."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        accounts = self._directory.accounts(attempt.username) if attempt.usable else ()
        at = clock.now()
        verified = self._credentials.cached(attempt, accounts, at)
        denial = self._denial(session, attempt, verified)
        if verified and not denial:
            return self._succeeded(session, attempt, verified)
        keys = self._keys(attempt.username, session.address)
        if any(self._under_way[key] >= self._at_once for key in keys):
            return self._busy("too many logins at once for this user or from this address")
        with self._counted(keys):
            try:
                # Verified also if the cache knows it: a right password from a disallowed address must not be quicker.
                verified = await self._credentials.verify(attempt, accounts, at)
            except Busy as fault:
                return self._busy(str(fault))
            denial = self._denial(session, attempt, verified)
            if verified and not denial:
                return self._succeeded(session, attempt, verified)
        delay = self.patience.delay(keys, started)
        self.patience.failed(keys, started)
        # Who waits for a refusal holds no place: guesses from everywhere must not keep out who knows the password.
        await asyncio.sleep(max(0.0, started + self._floor + delay - loop.time()))
        if self._directory.partly_read:
            return self._busy(LATER_VERSION)
        self._metrics.logins.labels("failed").inc()
        owner = accounts[0].configuration if accounts else None
        reason = denial or ("wrong password" if accounts else "no such user")
        return Refusal(
            reply.BAD_CREDENTIALS,
            reason,
            owner.instance if owner else "",
            owner.id if owner and len(accounts) == 1 else "",
        )

    def _denial(self, session: SubmissionSession, attempt: Attempt, verified: frozenset[str]) -> str:
        """Return "" if the rules of some instance of the verified accounts admit the address."""
        denial = "its user was removed meanwhile" if verified else ""
        for account in self._directory.accounts(attempt.username):
            if any(password.hash in verified for password in account.user.passwords):
                denial = self._directory.denial(account, session.address, session.endpoint)
                if not denial:
                    return ""
        return f"the password is right, but {denial}" if denial else ""

    def _succeeded(self, session: SubmissionSession, attempt: Attempt, verified: frozenset[str]) -> Login:
        pair = attempt.username, _source(session.address)
        self._familiar[pair] = None
        self._familiar.move_to_end(pair)
        if len(self._familiar) > FAMILIAR_PAIRS:
            self._familiar.popitem(last=False)
        self._metrics.logins.labels("ok").inc()
        accounts = self._directory.accounts(attempt.username)
        return Login(attempt.username, verified, accounts[0].configuration.instance if accounts else "")

    def _busy(self, reason: str) -> Refusal:
        self._metrics.logins.labels("busy").inc()
        return Refusal(reply.AUTH_BUSY, reason)

    def _keys(self, username: str, address: IpAddress | None) -> tuple[str, ...]:
        """Return what failures are counted under; a familiar pair does not suffer from others' guesses at its user."""
        text = _source(address)
        keys = [f"address {text}"]
        if address is not None:
            keys.append(f"network {network_of(address)}")
        familiar = (username, text) in self._familiar
        keys.append(f"user {username} from {text}" if familiar else f"user {username}")
        return tuple(blake2b(key.encode("utf-8", "replace"), digest_size=DIGEST_BYTES).hexdigest() for key in keys)

    @contextmanager
    def _counted(self, keys: tuple[str, ...]) -> Iterator[None]:
        self._under_way.update(keys)
        try:
            yield
        finally:
            for key in keys:
                self._under_way[key] -= 1
                if not self._under_way[key]:
                    del self._under_way[key]


def _source(address: IpAddress | None) -> str:
    return "" if address is None else source_of(address)
