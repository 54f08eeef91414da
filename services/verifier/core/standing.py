"""The standing of a configuration as a table: state × verdict → what happens.

Only definitive failures move a standing down, and only a run of them: fresh, at the usual pace, over the whole grace
period. A question nobody could answer changes nothing. Time comes in as an argument.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from shared.contract.records import Configuration
from shared.contract.standing import Observation, Standing, StandingState, Verdict

Move = Literal["keep", "verify", "degrade", "count"]
"""keep: only note the observation · verify: verified, the run of failures ends · degrade: first failure of a run ·
count: one more failure, and suspend when the run is long enough."""

TABLE: Mapping[tuple[StandingState, Verdict], Move] = {
    ("pending", "pass"): "verify",
    ("pending", "fail"): "keep",
    ("pending", "unknown"): "keep",
    ("verified", "pass"): "verify",
    ("verified", "fail"): "degrade",
    ("verified", "unknown"): "keep",
    ("degraded", "pass"): "verify",
    ("degraded", "fail"): "count",
    ("degraded", "unknown"): "keep",
    ("suspended", "pass"): "verify",
    ("suspended", "fail"): "keep",
    ("suspended", "unknown"): "keep",
}
"""The whole state machine; the diagram in the documents is drawn from it."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When a run of failures suspends."""

    grace: timedelta
    """From the first failure of the run."""
    failures_to_suspend: int
    """Consecutive definitive failures, the first included."""
    stale_after: timedelta
    """A run whose last check is longer ago than this starts again: nobody looked, so nobody knows."""
    domain_must_exist: bool = True
    """Whether a domain is verified for the first time only if it has an address or a mail exchanger."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    at: datetime
    spf: Observation
    dkim: Observation
    next_dkim: Observation | None = None
    """The key a rotation introduces; once it passes mail is signed with it, so it decides in place of `dkim`."""
    next_in_use: bool = False
    """Mail is signed with it since an earlier check, and this one could not find out about it."""
    ed25519: Observation | None = None
    """The second signing key; it decides nothing."""
    advice: str = ""
    """Says that the domain certainly has no address and no mail exchanger; empty if it has, or nobody could tell."""

    def where_the_domain_must_exist(self) -> "Inspection":
        """Return the same, with SPF failed for want of the domain: receivers refuse what such a domain authorises."""
        if not self.advice or self.spf.verdict != "pass":
            return self
        failed = msgspec.structs.replace(self.spf, verdict="fail", detail=self.advice)
        return msgspec.structs.replace(self, spf=failed, advice="")

    @property
    def signing(self) -> Observation:
        """What was seen of the key that mail is signed with."""
        coming = self.next_dkim
        if coming is None:
            return self.dkim
        silent = self.next_in_use and self.dkim.verdict != "pass"
        return coming if coming.verdict == "pass" or silent else self.dkim

    @property
    def verdict(self) -> Verdict:
        """Both must pass; a definitive failure of one outweighs not knowing the other."""
        verdicts = (self.spf.verdict, self.signing.verdict)
        return "fail" if "fail" in verdicts else "unknown" if "unknown" in verdicts else "pass"


class Step(NamedTuple):
    """The standing after a check and, if the state moved, the state it moved from."""

    standing: Standing
    moved_from: StandingState | None
    began: datetime
    """Since when the standing had been in the state before."""


def fresh(configuration: Configuration, now: datetime) -> Standing:
    """Return the standing of a configuration nobody has checked yet."""
    return Standing(
        configuration=configuration.id,
        instance=configuration.instance,
        domain=configuration.domain,
        state="pending",
        reason="The DNS records have not been checked yet.",
        since=now,
        next_check_at=now,
    )


LONGEST_CHECK = timedelta(seconds=15)
"""What is further back in time was seen by another clock, or by one that was put back: it must not stop all checks."""


def overtaken(standing: Standing, found: Inspection) -> bool:
    """Whether what this check saw of both records is older than what stands, which another check has seen since.

    Whoever publishes a record and asks for a check may meet one that was under way and is written after it.
    """
    if standing.spf is None or standing.dkim is None:
        return False
    behind = (standing.spf.at - found.spf.at, standing.dkim.at - found.dkim.at)
    return all(timedelta(0) < each <= LONGEST_CHECK for each in behind)


def apply(standing: Standing, found: Inspection, policy: Policy) -> Step:
    """Return the standing after `found`; `next_check_at` is left as it was."""
    if standing.state == "pending" and policy.domain_must_exist:
        found = found.where_the_domain_must_exist()
    coming = _last_known(standing.next_dkim, found.next_dkim)
    found = msgspec.structs.replace(found, next_in_use=coming is not found.next_dkim)
    verdict = found.verdict
    noted = msgspec.structs.replace(
        standing,
        spf=found.spf,
        dkim=found.dkim,
        next_dkim=coming,
        ed25519=_last_known(standing.ed25519, found.ed25519),
        checked_at=found.at,
        unknown_since=(standing.unknown_since or found.at) if verdict == "unknown" else None,
    )
    match TABLE[standing.state, verdict]:
        case "keep":
            return Step(_explained(noted, found), None, standing.since)
        case "verify":
            better = msgspec.structs.replace(noted, failures=0, failing_since=None)
            return _moved(better, "verified", found)
        case "degrade":
            worse = msgspec.structs.replace(noted, failures=1, failing_since=found.at)
            return _moved(worse, "degraded", found)
        case "count":
            worse = _counted(standing, noted, found, policy)
            lasting = found.at - (worse.failing_since or found.at)
            if worse.failures >= policy.failures_to_suspend and lasting >= policy.grace:
                return _moved(worse, "suspended", found)
            return Step(_explained(worse, found), None, standing.since)


def _last_known(before: Observation | None, now: Observation | None) -> Observation | None:
    """Return what is held of a key beside the one in use: an unanswered question does not take it out of use."""
    if before is None or now is None or now.verdict != "unknown":
        return now
    return before if before.verdict == "pass" and before.name == now.name else now


def _counted(before: Standing, noted: Standing, found: Inspection, policy: Policy) -> Standing:
    """Add a failure to the run, or begin a new run if the old one says nothing about now.

    A verifier that was down, or a clock that jumped, leaves a gap no check has filled (or one below zero).
    """
    if before.failing_since is None or before.checked_at is None:
        return msgspec.structs.replace(noted, failures=1, failing_since=found.at)
    gap = found.at - before.checked_at
    if not timedelta(0) <= gap <= policy.stale_after or before.failing_since > found.at:
        return msgspec.structs.replace(noted, failures=1, failing_since=found.at)
    return msgspec.structs.replace(noted, failures=before.failures + 1)


def _moved(standing: Standing, state: StandingState, found: Inspection) -> Step:
    if standing.state == state:
        return Step(_explained(standing, found), None, standing.since)
    moved = msgspec.structs.replace(standing, state=state, since=found.at)
    return Step(_explained(moved, found), standing.state, standing.since)


def _explained(standing: Standing, found: Inspection) -> Standing:
    told = reason(found)
    if standing.state == "pending":
        told += " A change in DNS may take up to 72 hours to be seen everywhere."
    return msgspec.structs.replace(standing, reason=told)


def reason(found: Inspection) -> str:
    """Say in sentences what was found and what it means; ASCII, fit for an SMTP reply."""
    faults = [o.detail for o in (found.spf, found.signing) if o.verdict == "fail"]
    doubts = [o.detail for o in (found.spf, found.signing) if o.verdict == "unknown"]
    told = [*faults, *doubts, *([found.advice] if found.advice else [])]
    if not told:
        return "The SPF and DKIM records are in order."
    return " ".join(told)
