"""One verdict on a domain's SPF from the outcomes for each of our sending addresses."""

from collections.abc import Mapping

from services.verifier.core.answer import Answer, Records, printable
from services.verifier.core.dkim_record import Finding
from services.verifier.core.spf import Outcome
from services.verifier.core.spf_record import is_spf

NEAR_LIMIT = 9
"""From this many look-ups on the customer is warned: one more include at a provider may break the record."""


def judge(outcomes: Mapping[str, Outcome], domain: str, advised: str, published: Answer | None) -> Finding:
    """Judge the outcomes by sending address; `advised` is the value the customer was told to publish.

    Valid is a domain that authorises every address. `published` is the answer for TXT at the domain, as evidence.
    """
    values = tuple(v for v in published.values if is_spf(v)) if isinstance(published, Records) else ()
    if not outcomes:
        return Finding(verdict="unknown", detail="No sending address is configured, so SPF cannot be judged.")
    definite = {a: o for a, o in outcomes.items() if o.result not in ("pass", "temperror")}
    if definite:
        address, outcome = next(iter(definite.items()))
        return Finding(verdict="fail", detail=printable(_failure(outcome, address, domain, advised)), values=values)
    doubtful = [o for o in outcomes.values() if o.result == "temperror"]
    if doubtful:
        detail = f"The SPF record of {domain} could not be evaluated: {doubtful[0].reason}."
        return Finding(verdict="unknown", detail=printable(detail), values=values)
    most = max(o.lookups for o in outcomes.values())
    warning = f" It needs {most} of the 10 DNS look-ups allowed: remove what is not used." if most >= NEAR_LIMIT else ""
    detail = f"The SPF record of {domain} authorises our sending addresses.{warning}"
    return Finding(verdict="pass", detail=detail, values=values)


def _failure(outcome: Outcome, address: str, domain: str, advised: str) -> str:
    match outcome.result:
        case "none":
            return f"There is no SPF record at {domain}: publish the TXT record '{advised}'."
        case "permerror":
            return f"The SPF record of {domain} is in error: {outcome.reason}."
        case _:
            wanted = _term(advised)
            return f"The SPF record of {domain} does not authorise {address} ({outcome.reason}): add '{wanted}' to it."


def _term(advised: str) -> str:
    """Return the part of the advised record that must be added to an existing one."""
    terms = [t for t in advised.split() if not is_spf(t) and not t.lower().endswith("all")]
    return " ".join(terms) or advised
