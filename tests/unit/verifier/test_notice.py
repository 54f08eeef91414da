"""What contacts are told: once for each thing that happened, under an identity that follows from it."""

from datetime import UTC, datetime, timedelta

import msgspec

from services.verifier.core import notice
from services.verifier.core.notice import Occasions, owed
from services.verifier.core.standing import Inspection, Policy, apply, fresh
from shared.contract.records import Configuration
from shared.contract.standing import NoticeKind, Observation, Standing, Verdict

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy(grace=30 * MINUTE, failures_to_suspend=3, stale_after=30 * MINUTE)
OCCASIONS = Occasions(pause=60 * MINUTE, waiting=timedelta(hours=72))
CONFIGURATION = Configuration(
    id="c-1", instance="i-1", name="n", domain="example.com", selector="s", dkim_value="v=DKIM1; p=KEY",
    spf_value="v=spf1 include:spf.relay.example -all", created_at=NOW, updated_at=NOW,
)  # fmt: skip


def found(verdict: Verdict, at: datetime) -> Inspection:
    spf = Observation(verdict=verdict, detail=f"SPF {verdict}.", name="example.com", at=at, values=("v=spf1 mx ~all",))
    return Inspection(at=at, spf=spf, dkim=Observation(verdict="pass", detail="DKIM pass.", name="d", at=at))


def told(*checks: tuple[Verdict, int]) -> tuple[list[NoticeKind], Standing]:
    """Apply checks, each so many minutes after the one before; nothing is ever struck off."""
    at, present = NOW, fresh(CONFIGURATION, NOW)
    for verdict, minutes in checks:
        at += minutes * MINUTE
        present = owed(apply(present, found(verdict, at), POLICY), at, OCCASIONS)
    return [each.kind for each in present.owed], present


def test_each_step_of_the_way_is_told_once() -> None:
    """Checks that change nothing say nothing."""
    kinds, _ = told(
        ("fail", 1), ("pass", 1), ("pass", 1), ("fail", 10), ("fail", 20), ("unknown", 1), ("fail", 20), ("fail", 20),
        ("pass", 1), ("pass", 1),
    )  # fmt: skip
    assert kinds == ["verified", "degraded", "suspended", "resumed"]


def test_a_flapping_zone_is_told_of_once_in_a_while() -> None:
    """Within the pause neither the fault nor its end is told; who was not told of one hears nothing of its end."""
    flaps: list[tuple[Verdict, int]] = [("fail", 5), ("pass", 5)]
    kinds, _ = told(("pass", 1), *flaps, *flaps, *flaps)
    assert kinds == ["verified", "degraded", "repaired"]
    kinds, _ = told(("pass", 1), *flaps, ("fail", 55), ("pass", 5))
    assert kinds == ["verified", "degraded", "repaired", "degraded", "repaired"]


def test_after_72_hours_of_waiting_it_is_said_once() -> None:
    """Not before, and not again; what appears later is told as usual."""
    failing: tuple[Verdict, int] = ("fail", 60)
    silent: tuple[Verdict, int] = ("unknown", 60)
    assert told(*[failing] * 71)[0] == []
    assert told(*[failing] * 80)[0] == ["waiting"]
    assert told(*[silent] * 80)[0] == ["waiting"]
    assert told(*[failing] * 80, ("pass", 1))[0] == ["waiting", "verified"]


def test_the_identity_follows_from_what_happened() -> None:
    """Whoever asks, and whatever else the standing holds by then."""
    _, standing = told(("pass", 1), ("fail", 5))
    first, second = standing.owed
    later = msgspec.structs.replace(standing, failures=9, owed=())
    assert notice.identity(standing, first) == notice.identity(later, first)
    assert notice.identity(standing, first) != notice.identity(standing, second)


def test_a_notice_says_what_was_seen_and_what_to_publish() -> None:
    """Only the records that fail are listed; SPF merged with what is there; a delegated key as the alias it is."""
    _, standing = told(("pass", 1), ("fail", 5))
    text = notice.text_of(CONFIGURATION, standing, standing.owed[-1], OCCASIONS)
    assert "SPF fail." in text
    assert "  example.com  TXT  v=spf1 mx include:spf.relay.example ~all" in text
    assert "_domainkey" not in text
    assert "new mail held, and sent when they return" in text
    refusing = msgspec.structs.replace(CONFIGURATION, when_suspended="refuse")
    assert "new mail refused" in notice.text_of(refusing, standing, standing.owed[-1], OCCASIONS)
    delegated = msgspec.structs.replace(CONFIGURATION, dkim_zone="dkim.relay.example")
    blind = msgspec.structs.replace(standing, dkim=None)
    assert "CNAME  s.dkim.relay.example." in notice.text_of(delegated, blind, standing.owed[-1], OCCASIONS)
    good = notice.text_of(CONFIGURATION, standing, standing.owed[0], OCCASIONS)
    assert "Publish" not in good
    assert "approved the questionnaire" in good
    assert max(len(line) for line in text.splitlines()) < 998
