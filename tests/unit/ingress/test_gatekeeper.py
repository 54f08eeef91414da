"""The gatekeeper: a login let in stays in, until the directory or a standing changes or something ends by itself."""

import datetime
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, cast

import msgspec
import pytest

from services.ingress.core.admission import Gates
from services.ingress.core.refusal import Refusal
from services.ingress.directory import Directory
from services.ingress.gatekeeper import Gatekeeper
from services.ingress.session import Login, Passage
from shared.bus.client import Bus
from shared.contract.records import Rule, RuleContext, Suspension, Zone, ZoneAddress
from shared.mail import reply
from shared.runtime import clock
from tests.unit.ingress.test_admission import AT, authorization, configuration, standing, user

HOUR = datetime.timedelta(hours=1)
ZONE = Zone(
    id="z", instance="i", name="z", addresses=(ZoneAddress(type="subnet", value="192.0.2.0/24"),),
    created_at=AT, updated_at=AT,
)  # fmt: skip
RULE = Rule(id="r", instance="i", contexts=(RuleContext(zones=("z",)),), created_at=AT, updated_at=AT)


class Session:
    """What the gatekeeper sees of a session."""

    def __init__(self) -> None:
        """Come from an address the rule admits."""
        self.address = ip_address("192.0.2.1")
        self.endpoint = "public"
        self.passages: dict[str, Passage] = {}


class Counted(Directory):
    """A directory in which sending is open, that counts how often it is looked at."""

    def __init__(self) -> None:
        """Fill it."""
        super().__init__(cast(Bus, None))
        self.looks = 0
        for key, record in (
            ("configuration.c", configuration()),
            ("user.c.alice", user("alice", "h")),
            ("zone.z", ZONE),
            ("rule.r", RULE),
        ):
            self.changed(key, record)

    def gates(self, configuration: str) -> Gates:
        """Open."""
        self.looks += 1
        return Gates(standing("verified"), authorization("approved"), None)


def asked(directory: Directory, session: Session, domain: str = "c.example") -> Passage | Refusal:
    """Ask for a passage."""
    login = Login("alice", frozenset({"h"}), "i")
    return Gatekeeper(directory).admit(cast(Any, session), login, domain, reply.SENDER_NOT_ALLOWED)


def test_let_in_once() -> None:
    """The second question costs no look; a foreign domain is refused each time."""
    directory, session = Counted(), Session()
    first = asked(directory, session)
    assert isinstance(first, Passage)
    assert asked(directory, session) is first
    assert directory.looks == 1
    for _ in range(2):
        refusal = asked(directory, session, "rival.example")
        assert isinstance(refusal, Refusal)
        assert "rival.example" in refusal.reason
    assert list(session.passages) == ["c.example"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda directory: directory.changed("rule.r", None), "no enabled rule"),
        (lambda directory: directory.changed("zone.z", None), "rule r has no zone"),
        (lambda directory: directory.changed("user.c.alice", None), "the user, its password"),
        (lambda directory: directory.changed("user.c.alice", user("alice", "other")), "the user, its password"),
        (lambda directory: directory.changed("configuration.c", None), "the user, its password"),
        (lambda directory: directory.changed("configuration.c", configuration("d")), "c.example"),
    ],
)
def test_any_change_is_looked_at(change: Callable[[Directory], None], said: str) -> None:
    """Whatever is taken away ends the passage at once."""
    directory, session = Counted(), Session()
    assert isinstance(asked(directory, session), Passage)
    change(directory)
    refusal = asked(directory, session)
    assert isinstance(refusal, Refusal)
    assert said in refusal.reason


def test_a_suspension_is_looked_at() -> None:
    """A record that concerns no index of the directory ends the passage too."""
    directory, session = Counted(), Session()
    assert isinstance(asked(directory, session), Passage)
    suspension = Suspension(configuration="c", reason="abuse", by="op", at=AT)
    directory.changed("suspension.c", suspension)
    assert isinstance(asked(directory, session), Passage)
    assert directory.looks == 2


def test_what_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password's end, and that of an allow list, end the passage with no change of the directory."""
    now = clock.now()
    directory, session = Counted(), Session()
    directory.changed("user.c.alice", user("alice", "h", expires_at=now + HOUR))
    first = asked(directory, session)
    assert isinstance(first, Passage)
    assert first.until == now + HOUR
    monkeypatch.setattr(clock, "now", lambda: now + HOUR)
    refusal = asked(directory, session)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.code == 421
    monkeypatch.setattr(clock, "now", lambda: now)
    listed = msgspec.structs.replace(configuration(), allowed_addresses=("192.0.2.1",), allowed_until=now + HOUR / 2)
    directory.changed("configuration.c", listed)
    second = asked(directory, session)
    assert isinstance(second, Passage)
    assert second.until == now + HOUR / 2
