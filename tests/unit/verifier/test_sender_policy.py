"""One verdict from the outcomes for several sending addresses."""

from services.verifier.core.answer import Records
from services.verifier.core.sender_policy import judge
from services.verifier.core.spf import Outcome, Result
from shared.contract.standing import Verdict

ADVISED = "v=spf1 include:spf.relay.example -all"


def verdict(*results: Result) -> tuple[Verdict, str]:
    outcomes = {f"192.0.2.{n}": Outcome(result=r, reason="so it is") for n, r in enumerate(results, 1)}
    finding = judge(outcomes, "example.com", ADVISED, Records(("v=spf1 -all", "other")))
    assert finding.values in ((), ("v=spf1 -all",))
    return finding.verdict, finding.detail


def test_every_address_must_pass() -> None:
    """One address that is not authorised fails the record, and the sentence names it and the cure."""
    assert verdict("pass", "pass")[0] == "pass"
    failed, told = verdict("pass", "softfail")
    assert failed == "fail"
    assert "does not authorise 192.0.2.2" in told
    assert "add 'include:spf.relay.example'" in told


def test_a_missing_record_and_a_broken_one_are_told_apart() -> None:
    """No record: publish this. A broken one: what is wrong with it."""
    assert verdict("none")[1] == f"There is no SPF record at example.com: publish the TXT record '{ADVISED}'."
    assert verdict("permerror")[1] == "The SPF record of example.com is in error: so it is."


def test_not_knowing_fails_nobody_but_does_not_hide_a_failure() -> None:
    """A temperror is unknown unless another address definitively fails."""
    assert verdict("pass", "temperror")[0] == "unknown"
    assert verdict("temperror", "fail")[0] == "fail"
    assert judge({}, "example.com", ADVISED, None).verdict == "unknown"


def test_a_record_near_the_limit_passes_with_a_warning() -> None:
    """Nine look-ups work today and may not tomorrow."""
    outcome = Outcome(result="pass", reason="", lookups=9)
    finding = judge({"192.0.2.1": outcome}, "example.com", ADVISED, None)
    assert finding.verdict == "pass"
    assert "9 of the 10" in finding.detail
