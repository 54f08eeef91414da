"""Logins: every failure costs one verification and is answered alike, also a right password from a wrong place."""

import asyncio
import datetime
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import argon2
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from services.ingress.authentication import Authentication
from services.ingress.core import sasl
from services.ingress.core.refusal import Refusal
from services.ingress.credentials import Credentials
from services.ingress.directory import Directory
from services.ingress.metrics import Metrics
from services.ingress.session import Login
from services.ingress.settings import IngressSettings
from shared.bus.client import Bus
from shared.contract.records import Configuration, Password, Rule, RuleContext, User, Zone, ZoneAddress
from shared.mail import reply
from tests import patience

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SETTINGS = IngressSettings(
    tls_certificate_file=Path("x"), tls_key_file=Path("x"), login_threads=1, failed_login_seconds=0,
    failed_login_delay_seconds=0,
)  # fmt: skip


class Session:
    """What authentication looks at of a session."""

    def __init__(self, address: str) -> None:
        """Come from an address by the public endpoint."""
        self.address = ip_address(address)
        self.client_address = address
        self.endpoint = "public"


class Stage:
    """A directory with alice, admitted from 192.0.2.0/24, and what decides on logins."""

    def __init__(self) -> None:
        """Fill the directory."""
        self.directory = Directory(cast(Bus, None))
        self.credentials = Credentials(SETTINGS)
        self.authentication = Authentication(self.directory, self.credentials, Metrics(CollectorRegistry()), SETTINGS)
        configuration = Configuration(
            id="c", instance="i", name="c", domain="x.example", selector="s", dkim_value="", spf_value="",
            created_at=AT, updated_at=AT,
        )  # fmt: skip
        address = ZoneAddress(type="subnet", value="192.0.2.0/24")
        zone = Zone(id="z", instance="i", name="z", addresses=(address,), created_at=AT, updated_at=AT)
        rule = Rule(id="r", instance="i", contexts=(RuleContext(zones=("z",)),), created_at=AT, updated_at=AT)
        self.user = User(
            id="u", instance="i", configuration="c", username="alice", created_at=AT, updated_at=AT,
            passwords=(Password(id="p", hash=CHEAP.hash("secret"), created_at=AT),),
        )  # fmt: skip
        for key, record in (("configuration.c", configuration), ("zone.z", zone), ("rule.r", rule)):
            self.directory.changed(key, record)
        self.limit()

    def limit(self, **limits: Any) -> None:
        """Set guard rails of alice."""
        self.directory.changed("user.c.u", msgspec.structs.replace(self.user, **limits))

    async def login(self, password: str, address: str = "192.0.2.1", username: str = "alice") -> Login | Refusal:
        """Log in; an attempt that is refused has cost one verification."""
        before = self.credentials.verified
        attempt = sasl.login(username.encode(), password.encode())
        outcome = await self.authentication.login(cast(Any, Session(address)), attempt)
        if isinstance(outcome, Refusal):
            assert outcome.reply == reply.BAD_CREDENTIALS
            assert self.credentials.verified == before + 1
        return outcome


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Give a test a stage."""
    found = Stage()
    yield found
    found.credentials.close()


async def test_every_failure_is_alike(stage: Stage) -> None:
    """Unknown user, wrong password, uncovered address, network of the user: one answer, one verification each."""
    assert isinstance(await stage.login("secret"), Login)  # now the cache knows the password
    stage.limit(networks=("192.0.2.128/25",))
    refusals = [
        await stage.login("secret", username="nobody"),
        await stage.login("wrong"),
        await stage.login("secret", "203.0.113.9"),
        await stage.login("secret"),
    ]
    assert [refusal.reason for refusal in refusals if isinstance(refusal, Refusal)] == [
        "no such user",
        "wrong password",
        "the password is right, but rule r has no zone with 203.0.113.9 at the public endpoint",
        "the password is right, but the user alice may only come from 192.0.2.128/25, not from 192.0.2.1",
    ]
    assert isinstance(await stage.login("secret", "192.0.2.200"), Login)


async def test_two_passwords_work_until_they_end(stage: Stage) -> None:
    """Both of a rotation's passwords are right; one that has ended is not, whatever the cache knew."""
    now = datetime.datetime.now(datetime.UTC)
    second = Password(id="q", hash=CHEAP.hash("next"), created_at=AT)
    stage.limit(passwords=(*stage.user.passwords, second))
    assert isinstance(await stage.login("secret"), Login)
    assert isinstance(await stage.login("next"), Login)
    ended = msgspec.structs.replace(stage.user.passwords[0], expires_at=now)
    stage.limit(passwords=(ended, second))
    assert isinstance(await stage.login("secret"), Refusal)
    assert isinstance(await stage.login("next"), Login)


async def test_guesses_that_wait_keep_nobody_out(stage: Stage) -> None:
    """Twenty guessers from everywhere wait for their refusals; who knows the password logs in meanwhile."""
    settings = msgspec.structs.replace(SETTINGS, failed_login_seconds=30.0, logins_per_key=5)
    metrics = Metrics(CollectorRegistry())
    authentication = Authentication(stage.directory, stage.credentials, metrics, settings)

    async def login(password: str, address: str) -> Login | Refusal:
        return await authentication.login(cast(Any, Session(address)), sasl.login(b"alice", password.encode()))

    guesses = [asyncio.create_task(login("wrong", f"203.0.{number}.9")) for number in range(5)]
    async with asyncio.timeout(60):
        while stage.credentials.verified < len(guesses):
            await asyncio.sleep(0.01)
        assert isinstance(await login("secret", "192.0.2.77"), Login)
    assert not any(guess.done() for guess in guesses)
    await patience.ended(*guesses)


async def test_a_user_removed_while_its_password_is_verified(stage: Stage) -> None:
    """What was right when it came is wrong when the answer is given."""
    session, attempt = Session("192.0.2.1"), sasl.login(b"alice", b"secret")
    login = asyncio.create_task(stage.authentication.login(cast(Any, session), attempt))
    await asyncio.sleep(0)  # it is being verified
    stage.directory.changed("user.c.u", None)
    outcome = await login
    assert isinstance(outcome, Refusal)
    assert outcome.reply == reply.BAD_CREDENTIALS
    assert outcome.instance == "i"


@pytest.mark.parametrize("username", ["alice", "nobody"])
async def test_no_memory_is_no_wrong_password(stage: Stage, monkeypatch: pytest.MonkeyPatch, username: str) -> None:
    """Argon2 that cannot get its memory says so: 454, which does not count as a guess, whoever asks."""

    class Starved:
        def verify(self, _hash: str, _password: str) -> bool:
            raise argon2.exceptions.VerificationError("Memory allocation error")

    monkeypatch.setattr("services.ingress.credentials._HASHER", Starved())
    outcome = await stage.authentication.login(
        cast(Any, Session("192.0.2.1")), sasl.login(username.encode(), b"secret")
    )
    assert isinstance(outcome, Refusal)
    assert outcome.reply == reply.AUTH_BUSY
    assert outcome.reason == "no password can be verified: Memory allocation error"
    assert not stage.authentication.patience.worst(10, asyncio.get_running_loop().time())
