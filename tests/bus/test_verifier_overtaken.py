"""Two checks side by side on a real bus: the one that looked first and is written last changes nothing."""

from datetime import timedelta

from services.verifier.core.notice import Occasions
from services.verifier.core.recheck import Intervals
from services.verifier.core.standing import Inspection, Policy
from services.verifier.standings import Standings
from shared.contract.standing import Observation, Verdict
from tests.bus_server import BusServer
from tests.verifier_world import NOW, configuration

SECOND = timedelta(seconds=1)


def found(verdict: Verdict, seconds: float) -> Inspection:
    """Return what a check found so long after the beginning."""
    at = NOW + seconds * SECOND
    seen = Observation(verdict=verdict, detail=verdict, name="tenant.example", at=at)
    return Inspection(at=at, spf=seen, dkim=seen)


async def test_an_older_look_does_not_replace_a_newer_one(bus_server: BusServer) -> None:
    """Verified by a check that was asked for, while another one had looked before the record was published."""
    bus = await bus_server.connect("verifier")
    minute = timedelta(minutes=1)
    standings = Standings(
        bus,
        Policy(grace=minute, failures_to_suspend=3, stale_after=minute),
        Intervals(pending=minute, pending_at_most=minute, verified=minute, degraded=minute),
        Occasions(pause=minute, waiting=minute),
        clock=lambda: NOW,
        chance=lambda: 0.5,
    )
    asked_for = await standings.note(configuration(), found("pass", 1.0))
    late = await standings.note(configuration(), found("fail", 0.9))
    assert (late.standing, late.revision, late.moved_from) == (asked_for.standing, asked_for.revision, None)
    assert late.standing.state == "verified"
    control = await standings.note(configuration(), found("fail", 1.1))
    assert (control.standing.state, control.moved_from) == ("degraded", "verified")
    await bus.close()
