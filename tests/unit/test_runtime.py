"""Settings, secrets, sealing, certificates, health conditions."""

import asyncio
import json
import logging
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pytest
from cryptography.hazmat.primitives import serialization
from msgspec import Meta

from shared.contract.errors import SettingsFault
from shared.runtime import clock, lifecycle
from shared.runtime.certificates import ensure_certificates
from shared.runtime.health import Conditions, HealthSettings
from shared.runtime.logs import JsonLines, Terminal
from shared.runtime.sealing import SealBroken, new_master_key, read_master_key, seal, unseal
from shared.runtime.secret import Secret
from shared.runtime.settings import Settings, load

_AT_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "


class Sample(Settings, frozen=True, kw_only=True):
    """A room's settings."""

    count: Annotated[int, Meta(ge=1, description="how many")] = 3
    names: tuple[str, ...] = ()
    password: Secret = Secret("")
    key_file: Path | None = None
    must: str
    pace: float = 1.0


def test_settings_come_from_environment_and_file_and_the_environment_wins(tmp_path: Path) -> None:
    """Values are converted; lists are comma separated; secrets can come from files."""
    file, secret = tmp_path / "s.toml", tmp_path / "secret"
    file.write_text('[sample]\ncount = 7\nmust = "file"\n[other]\nx = 1\n')
    secret.write_text("hush\n")
    environ = {
        "POSTLANE_SAMPLE_MUST": "env",
        "POSTLANE_SAMPLE_NAMES": "a, b,",
        "POSTLANE_SAMPLE_PASSWORD_FILE": str(secret),
        "POSTLANE_SAMPLE_KEY_FILE": "/k",
    }

    read = load(Sample, "sample", environ, file)

    assert read == Sample(count=7, names=("a", "b"), password=Secret("hush"), key_file=Path("/k"), must="env")
    assert "hush" not in repr(read)


def test_all_faults_of_settings_are_reported_at_once() -> None:
    """Unknown names, bad values and missing ones stand in one message."""
    with pytest.raises(SettingsFault) as fault:
        load(Sample, "sample", {"POSTLANE_SAMPLE_COUNT": "0", "POSTLANE_SAMPLE_WRONG": "x"})

    for part in ("POSTLANE_SAMPLE_COUNT", "POSTLANE_SAMPLE_WRONG is not a setting", "POSTLANE_SAMPLE_MUST is missing"):
        assert part in str(fault.value)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan", "1e999"])
def test_a_number_that_is_not_finite_is_a_fault(number: str) -> None:
    """No timer can wait for it."""
    with pytest.raises(SettingsFault, match="POSTLANE_SAMPLE_PACE"):
        load(Sample, "sample", {"POSTLANE_SAMPLE_MUST": "x", "POSTLANE_SAMPLE_PACE": number})


def test_files_that_are_no_text_are_faults(tmp_path: Path) -> None:
    """Of a secret, and of the settings themselves; what is in them is not told."""
    for name in ("password", "settings"):
        (tmp_path / name).write_bytes(b"hunter2\xff")
    with pytest.raises(SettingsFault) as told:
        load(Sample, "sample", {"POSTLANE_SAMPLE_PASSWORD_FILE": str(tmp_path / "password")}, tmp_path / "settings")
    assert "PASSWORD_FILE" in str(told.value)
    assert "is not TOML" in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("level", ["debug", "WARNING"])
def test_a_level_of_the_log_is_a_setting_that_is_checked(level: str) -> None:
    """One that does not exist is a fault of the settings, told as such; it must not end each start of a room."""
    known: HealthSettings = load(HealthSettings, "health", {"POSTLANE_HEALTH_LOG_LEVEL": level})
    assert known.log_level == level
    with pytest.raises(SettingsFault, match="POSTLANE_HEALTH_LOG_LEVEL"):
        load(HealthSettings, "health", {"POSTLANE_HEALTH_LOG_LEVEL": f"{level}s"})


def test_a_sealed_secret_opens_only_in_its_context(tmp_path: Path) -> None:
    """Another context or another master key cannot open it."""
    file = tmp_path / "key"
    file.write_text(new_master_key())
    key = read_master_key(file)
    sealed = seal(key, b"private", "dkim.a")

    assert unseal(key, sealed, "dkim.a") == b"private"
    with pytest.raises(SealBroken):
        unseal(key, sealed, "dkim.b")
    with pytest.raises(SealBroken):
        unseal(bytes(32), sealed, "dkim.a")
    file.write_text("too short")
    with pytest.raises(SealBroken):
        read_master_key(file)


def test_what_a_former_master_key_sealed_is_opened_by_its_successor(tmp_path: Path) -> None:
    """The first line seals; the lines below only open. Without them the old seals stay closed."""
    old, new = new_master_key(), new_master_key()
    file = tmp_path / "key"
    file.write_text(old)
    sealed = seal(read_master_key(file), b"private", "dkim.a")
    file.write_text(f"{new}\n{old}\n")
    both = read_master_key(file)
    assert unseal(both, sealed, "dkim.a") == b"private"
    anew = seal(both, b"private", "dkim.a")
    file.write_text(new)
    assert unseal(read_master_key(file), anew, "dkim.a") == b"private"
    with pytest.raises(SealBroken):
        unseal(read_master_key(file), sealed, "dkim.a")
    file.write_text(f"{new}\nrubbish\n")
    with pytest.raises(SealBroken):
        read_master_key(file)


def test_certificates_are_made_once_and_the_key_is_private(tmp_path: Path) -> None:
    """A second call keeps what is there."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    ensure_certificates(tmp_path, ("localhost", "127.0.0.1"), now)
    first = (tmp_path / "cert.pem").read_bytes()
    ensure_certificates(tmp_path, ("localhost",), now)

    assert (tmp_path / "cert.pem").read_bytes() == first
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    """At a terminal too, where OpenSSL would ask and the whole process wait."""
    ensure_certificates(tmp_path, ("localhost",), datetime.now(UTC))
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"x")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (tmp_path / "key.pem").write_bytes(pem)
    look = "import sys, pathlib; from shared.runtime.server_certificate import server_context; "
    look += "server_context(*map(pathlib.Path, sys.argv[1:]))"
    keyboard, screen = pty.openpty()
    with os.fdopen(keyboard, "rb", 0):
        files = (tmp_path / "cert.pem", tmp_path / "key.pem")
        ended = subprocess.run(
            [sys.executable, "-c", _AT_TERMINAL + look, *files], stdin=screen, stdout=screen, stderr=subprocess.PIPE,
            start_new_session=True, timeout=30, check=False,
        )  # fmt: skip
        os.close(screen)
    assert ended.returncode == 1
    assert b"SSLError" in ended.stderr


def test_a_room_is_ready_when_every_condition_holds() -> None:
    """Conditions are named and say why they fail."""
    conditions = Conditions()
    assert conditions.set("start", True)
    assert conditions.set("bus", False, "away")
    assert dict(conditions.failing) == {"bus": "away"}
    assert not conditions.set("bus", False, "away")
    assert conditions.set("bus", True)
    assert not conditions.failing


HOSTILE = 'a\r\n{"level":"error"}\x1b[31m\x85\x9b31m\u2028\u2029\u202e"end'


@pytest.mark.parametrize("form", [JsonLines(), Terminal()])
def test_a_record_is_one_line_whatever_is_in_it(form: logging.Formatter) -> None:
    """No control, no end of line of any alphabet and no change of direction stands in a line; letters do."""
    record = logging.makeLogRecord(
        {"name": "ingress", "msg": "Grüße %s", "args": (HOSTILE,), "levelno": 20, "user": HOSTILE}
    )
    line = form.format(record).replace("\x1b[0m", "")  # the terminal's own colour
    assert len(line.splitlines()) == 1
    assert not any(each in line for each in "\x1b\x85\x9b\u202e")
    assert "Grüße" in line
    if isinstance(form, JsonLines):
        told = json.loads(line)
        assert (told["text"], told["user"]) == (f"Grüße {HOSTILE}", HOSTILE)


def test_a_room_ends_although_a_cancellation_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that misses its cancellation once does not keep the process from ending."""
    monkeypatch.setattr(lifecycle, "INSIST_SECONDS", 0.05)
    monkeypatch.setattr("shared.runtime.logs.configure", lambda _level: None)
    swallowed = 0

    async def deaf() -> None:
        nonlocal swallowed
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed += 1
        await asyncio.Event().wait()

    async def main(here: lifecycle.Room) -> None:
        here.tasks.create_task(deaf())
        await asyncio.sleep(0)

    assert lifecycle.run("room", main, HealthSettings(listen="")) == 0
    assert swallowed == 1


@pytest.mark.parametrize("ignored", [False, True])
def test_a_hangup_ends_a_room_in_good_order(monkeypatch: pytest.MonkeyPatch, ignored: bool) -> None:
    """A terminal that is closed cuts nothing off; under `nohup` it is not heard of."""
    monkeypatch.setattr("shared.runtime.logs.configure", lambda _level: None)
    stopped: list[bool] = []

    async def main(here: lifecycle.Room) -> None:
        afterwards = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, afterwards.set)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        await afterwards.wait()
        stopped.append(here.stopping.is_set())

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert lifecycle.run("room", main, HealthSettings(listen="")) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert stopped == [not ignored]


async def test_a_future_is_given_a_limit_and_keeps_what_came_in_time() -> None:
    loop = asyncio.get_running_loop()
    late, done = loop.create_future(), loop.create_future()
    done.set_result("in time")
    clock.limit(done, 0)
    clock.limit(late, 0)
    with pytest.raises(TimeoutError):
        await late
    assert await done == "in time"
