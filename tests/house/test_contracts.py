"""The house itself: walls, writers, generated pages, sizes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.command.generated_docs import RFC_TITLES, write
from services.command.settings_page import declared
from shared.bus.permissions import permissions_of, users
from shared.bus.settings import Topology
from shared.contract.catalog import BUCKETS, ROOMS, STREAMS, Room

ROOT = Path(__file__).parents[2]


def test_the_walls_between_the_rooms_hold() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout
    assert "Contracts: 3 kept, 0 broken." in result.stdout


def test_generated_pages_are_up_to_date() -> None:
    """`make docs` would change nothing."""
    assert write(ROOT / "docs", check=True) == []


def test_every_subject_and_bucket_has_one_writer() -> None:
    """No two rooms may write the same subject."""
    for stream in STREAMS:
        for pattern, writers in stream.writers.items():
            assert len(writers) == 1, pattern
    assert len({bucket.name for bucket in BUCKETS}) == len(BUCKETS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_may_make_or_change_streams_and_consumers(room: Room) -> None:
    """The right to create a consumer is the right to publish anywhere: nobody but provisioning has it."""
    for subject in permissions_of(room, Topology()).publish:
        assert not re.match(
            r"\$JS\.API\.(CONSUMER\.(CREATE|DURABLE|DELETE)|STREAM\.(CREATE|UPDATE|DELETE|PURGE))", subject
        )
        assert subject not in {">", "$JS.API.>", "$JS.ACK.>"}


def test_status_may_publish_nothing() -> None:
    """The subscribers' credential only reads."""
    assert permissions_of("status", Topology()).publish == ()
    assert "status" in users()


def test_every_cited_rfc_has_its_title() -> None:
    """docs/rfc.md names every RFC that the code cites."""
    untitled = re.findall(r"^## RFC (\d+)$", (ROOT / "docs" / "rfc.md").read_text(), re.MULTILINE)
    assert untitled == []
    assert RFC_TITLES


def test_every_setting_is_described() -> None:
    """A setting without a description cannot be set by a stranger."""
    from services.command.settings_page import page

    assert set(declared()) >= {*ROOMS, "bus", "topology", "health", "sandbox"}
    assert [line for line in page().splitlines() if line.endswith("|  |")] == []


def test_every_room_has_its_sign() -> None:
    """Each room's __init__ says what it owns, reads, writes and never does."""
    for room in (*ROOMS, "sandbox", "command"):
        sign = (ROOT / "services" / room / "__init__.py").read_text()
        for word in ("owns", "reads", "writes", "never"):
            assert re.search(rf"^{word}\b", sign, re.MULTILINE | re.IGNORECASE), f"{room}: {word}"


def test_no_module_grows_past_its_noun() -> None:
    """A module of more than 400 lines is a missing noun."""
    long = {
        file.relative_to(ROOT).as_posix(): lines
        for top in ("services", "shared")
        for file in (ROOT / top).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 400
    }
    assert long == {}


def test_the_lock_names_no_index() -> None:
    """The lock holds versions and hashes, and no address."""
    lock = (ROOT / "requirements.lock").read_text()

    assert "--hash=sha256:" in lock
    assert not re.search(r"https?://|--index-url|--find-links|--extra-index-url", lock)


def test_every_file_named_in_the_flow_exists() -> None:
    """A reader finds each step's file from docs/flow.md."""
    named = re.findall(r"`((?:services|shared|docs|tests)/[\w/.]+)`", (ROOT / "docs" / "flow.md").read_text())

    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
