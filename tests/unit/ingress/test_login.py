"""Logins: the octets of AUTH, the patience with failures and the verification of passwords."""

import asyncio
import datetime
import queue
import threading
from base64 import b64encode
from pathlib import Path
from unittest.mock import Mock

import argon2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core import sasl
from services.ingress.core.admission import Account
from services.ingress.core.patience import WORTH_TELLING, Patience, PatiencePolicy
from services.ingress.credentials import Busy, Credentials
from services.ingress.settings import IngressSettings
from shared.contract.records import Configuration, Password, User

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SETTINGS = IngressSettings(tls_certificate_file=Path("x"), tls_key_file=Path("x"), login_threads=1, login_queue=2)
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.mark.parametrize(
    ("message", "username", "usable"),
    [
        (b"\0alice\0secret", "alice", True),
        (b"alice\0alice\0secret", "alice", True),
        (b"bob\0alice\0secret", "alice", False),
        (b"\0alice\0", "alice", False),
        (b"\0\0secret", "", False),
        (b"alice\0secret", "", False),
        (b"\0alice\0sec\0ret", "", False),
        (b"\0alice\0\xff", "alice", False),
        (b"\0" + b"a" * 1025 + b"\0secret", "a" * 1025, False),
        ("\0jürgen\0pässword".encode(), "jürgen", True),
    ],
)
def test_plain(message: bytes, username: str, usable: bool) -> None:
    """PLAIN is three parts, one identity, and neither part empty (RFC 4616)."""
    attempt = sasl.plain(message)
    assert (attempt.username, attempt.usable) == (username, usable)
    assert "secret" not in repr(attempt)


@given(st.binary(max_size=60))
def test_any_exchange_is_answered(octets: bytes) -> None:
    """No octets make the decoders fail, and what is base64 comes back."""
    assert sasl.decode(octets) is None or isinstance(sasl.decode(octets), bytes)
    assert sasl.decode(b64encode(octets)) == octets
    assert isinstance(sasl.plain(octets), sasl.Attempt)
    assert isinstance(sasl.login(octets, octets), sasl.Attempt)


def test_empty_initial_response() -> None:
    """`=` is the empty response (RFC 4954 §4), and nothing but base64 is taken."""
    assert sasl.decode(b"=") == b""
    assert sasl.decode(b"YQ") is None
    assert sasl.decode(b"Y Q==") is None
    assert sasl.decode(b"YWJj=") is None
    assert sasl.decode(b"YWJj====") is None


def test_patience_grows_and_forgets() -> None:
    """After the free failures the delay doubles to its cap; with time the failures count less; keys do not mix."""
    patience = Patience(PatiencePolicy(free=2, base_seconds=1, cap_seconds=8, half_life_seconds=100, keys=10))
    delays = []
    for _ in range(8):
        delays.append(patience.delay(["a"], 0.0))
        patience.failed(["a"], 0.0)
    assert delays == [0, 0, 1, 2, 4, 8, 8, 8]
    assert patience.delay(["b"], 0.0) == 0
    assert patience.delay(["a", "b"], 0.0) == 8
    assert patience.delay(["a"], 200.0) == 1  # eight failures count as two
    assert patience.delay(["a"], 600.0) == 0


def test_failures_seen_by_siblings_count() -> None:
    """What other processes have seen adds to our own, counts less with age, and goes with them."""
    ours, theirs = (Patience(PatiencePolicy(free=2, base_seconds=1, half_life_seconds=100)) for _ in range(2))
    for _ in range(4):
        theirs.failed(["a", "b"], 0.0)
    theirs.failed(["c"], 0.0)
    assert theirs.worst(2, 0.0) == {"a": 4.0, "b": 4.0}
    assert theirs.worst(9, 1000.0) == {}
    ours.failed(["a"], 0.0)
    ours.heard("s1", theirs.worst(2, 0.0), 0.0)
    assert ours.recent("a", 0.0) == 5
    assert ours.recent("a", 100.0) == 2.5
    assert ours.delay(["b"], 0.0) == 4
    assert ours.worst(9, 0.0) == {"a": 1.0}
    ours.heard("s1", None, 0.0)
    assert ours.recent("a", 0.0) == 1


def test_patience_is_bounded() -> None:
    """However many keys fail, only the latest are remembered."""
    patience = Patience(PatiencePolicy(keys=10))
    patience.failed([f"k{number}" for number in range(100)], 0.0)
    assert patience.recent("k0", 0.0) == 0
    assert patience.recent("k99", 0.0) == 1


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), max_size=8))
def test_the_worst_are_the_same_as_of_all(seconds: list[list[str]]) -> None:
    """What is told each second is the most there is, although not every key is looked at."""
    patience = Patience(PatiencePolicy(half_life_seconds=3))
    for at, failing in enumerate(seconds):
        patience.failed(failing, float(at))
        counts = sorted((patience.recent(key, float(at)) for key in "abcdefg"), reverse=True)
        told = patience.worst(3, float(at))
        assert list(told.values()) == pytest.approx([count for count in counts[:3] if count >= WORTH_TELLING])
        assert all(patience.recent(key, float(at)) == count for key, count in told.items())


def test_the_worst_of_very_many_are_found_by_looking_at_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses at a hundred thousand names must not hold up the sessions each second from then on."""
    patience = Patience(PatiencePolicy())
    patience.failed([f"k{number}" for number in range(100_000)], 0.0)
    assert len(patience.worst(500, 1.0)) == 500
    decayed = Mock(wraps=patience._decayed)
    monkeypatch.setattr(patience, "_decayed", decayed)
    patience.failed(["k7", "k7"], 1.0)
    worst = patience.worst(500, 2.0)
    assert next(iter(worst)) == "k7"
    assert decayed.call_count < 600


def account(hashed: str, username: str = "alice") -> Account:
    """Make an account with one password."""
    user = User(
        id="u", instance="i", configuration="c", username=username, created_at=AT, updated_at=AT,
        passwords=(Password(id="p", hash=hashed, created_at=AT),),
    )  # fmt: skip
    configuration = Configuration(
        id="c", instance="i", name="c", domain="x.example", selector="s", dkim_value="", spf_value="",
        created_at=AT, updated_at=AT,
    )  # fmt: skip
    return Account(user, configuration)


async def test_verified_passwords_are_remembered_and_dropped() -> None:
    """A right password is verified once, until its user changes; a wrong one never matches."""
    credentials = Credentials(SETTINGS)
    try:
        alice = (account(CHEAP.hash("secret")),)
        right, wrong = sasl.login(b"alice", b"secret"), sasl.login(b"alice", b"wrong")
        assert credentials.cached(right, alice, AT) == frozenset()
        matching = await credentials.verify(right, alice, AT)
        assert matching == {alice[0].user.passwords[0].hash}
        assert credentials.cached(right, alice, AT) == matching
        assert await credentials.verify(wrong, alice, AT) == frozenset()
        assert credentials.cached(wrong, alice, AT) == frozenset()
        # Another hash in the directory: what was verified does not count, even before it is dropped.
        assert credentials.cached(right, (account(CHEAP.hash("secret")),), AT) == frozenset()
        credentials.drop("alice")
        assert credentials.cached(right, alice, AT) == frozenset()
    finally:
        credentials.close()


async def test_unknown_user_costs_a_verification() -> None:
    """An unknown user is verified too, against a hash with the parameters of real ones."""
    credentials = Credentials(SETTINGS)
    try:
        before = credentials.verified
        assert await credentials.verify(sasl.login(b"nobody", b"x"), (), AT) == frozenset()
        assert credentials.verified == before + 1
        await credentials.verify(sasl.login(b"alice", b"x"), (account(CHEAP.hash("secret")),), AT)
        assert argon2.extract_parameters(credentials.dummy).memory_cost == 8
    finally:
        credentials.close()


async def test_queue_of_verifications_is_bounded() -> None:
    """Beyond the queue a login is told to come back, at once."""
    credentials = Credentials(SETTINGS)
    try:
        attempt = sasl.login(b"nobody", b"x")
        waiting = [asyncio.ensure_future(credentials.verify(attempt, (), AT)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await credentials.verify(attempt, (), AT)
        assert await asyncio.gather(*waiting) == [frozenset(), frozenset()]
    finally:
        credentials.close()


@pytest.mark.parametrize(("setting", "cores", "at_once"), [(2, 4, 2), (1, 4, 1), (0, 6, 3), (0, 1, 1)])
async def test_threads_verify_side_by_side(
    monkeypatch: pytest.MonkeyPatch, setting: int, cores: int, at_once: int
) -> None:
    """As many as set, or half of the cores; one more waits until one of them is done."""
    begun: queue.Queue[str] = queue.Queue()
    go_on = threading.Event()

    def matching(_hashes: list[str], password: str) -> frozenset[str]:
        begun.put(password)
        assert go_on.wait(30)
        return frozenset()

    monkeypatch.setattr("services.ingress.credentials._matching", matching)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    credentials = Credentials(msgspec.structs.replace(SETTINGS, login_threads=setting, login_queue=9))
    try:
        attempts = [sasl.login(b"nobody", b"x%d" % number) for number in range(at_once + 1)]
        waiting = [asyncio.ensure_future(credentials.verify(attempt, (), AT)) for attempt in attempts]
        first = {await asyncio.to_thread(begun.get, timeout=30) for _ in range(at_once)}
        assert first == {f"x{number}" for number in range(at_once)}
        assert begun.empty()
        go_on.set()
        assert await asyncio.gather(*waiting) == [frozenset()] * (at_once + 1)
    finally:
        go_on.set()
        credentials.close()
