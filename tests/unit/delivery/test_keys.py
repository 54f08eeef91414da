"""Which keys sign during a rotation and with a second key."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from services.delivery.core.keys import KeyChoice, chosen
from shared.contract.records import Configuration, PublishedKey
from shared.contract.standing import Observation, Standing, Verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CONFIGURATION = Configuration(
    id="c", instance="i", name="n", domain="acme.example", selector="s1", dkim_value="v=DKIM1; p=one",
    spf_value="v=spf1 -all", created_at=NOW, updated_at=NOW,
)  # fmt: skip
ROTATING = msgspec.structs.replace(CONFIGURATION, next_key=PublishedKey(selector="s2", value="v=DKIM1; p=2", since=NOW))
STANDING = Standing(configuration="c", instance="i", domain="acme.example", state="verified", reason="x", since=NOW)


def seen(verdict: Verdict, selector: str, at: datetime = NOW) -> Observation:
    return Observation(verdict=verdict, detail="x", name=f"{selector}._domainkey.acme.example", at=at)


def names(configuration: Configuration | None, standing: Standing | None) -> list[str]:
    choice = chosen("c", configuration, standing)
    return [each.name for each in (choice.main[0], *choice.beside)]


@pytest.mark.parametrize(
    ("observation", "name"),
    [
        (None, "dkim.c"),
        (seen("fail", "s2"), "dkim.c"),
        (seen("unknown", "s2"), "dkim.c"),
        (seen("pass", "s9"), "dkim.c"),
        (seen("pass", "s2", NOW - timedelta(seconds=1)), "dkim.c"),
        (seen("pass", "s2"), "dkim-next.c"),
    ],
)
def test_the_next_key_signs_once_it_was_seen(observation: Observation | None, name: str) -> None:
    """Not before; not by what was seen of another key."""
    assert names(ROTATING, msgspec.structs.replace(STANDING, next_dkim=observation)) == [name]
    assert names(CONFIGURATION, msgspec.structs.replace(STANDING, next_dkim=observation)) == ["dkim.c"]


def test_the_second_key_signs_beside_the_first() -> None:
    """Once it was seen, with the selector the configuration names."""
    second = PublishedKey(selector="e", value="v=DKIM1; k=ed25519; p=x", since=NOW)
    both = msgspec.structs.replace(CONFIGURATION, ed25519_key=second)
    assert names(both, STANDING) == ["dkim.c"]
    found = msgspec.structs.replace(STANDING, ed25519=seen("pass", "e"))
    assert chosen("c", both, found).beside == (KeyChoice("dkim-ed25519.c", "e"),)
    assert names(None, found) == names(both, None) == ["dkim.c"]


def test_a_key_is_found_wherever_a_crash_left_it() -> None:
    """The selector in use decides, under either name; before mail is not signed at all, any key will do."""
    assert chosen("c", CONFIGURATION, STANDING).main == (
        KeyChoice("dkim.c", "s1"), KeyChoice("dkim-next.c", "s1"), KeyChoice("dkim.c", ""),
    )  # fmt: skip
