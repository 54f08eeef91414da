"""From a new configuration to the first message: records to publish, what was seen of them, what is missing."""

import base64
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from services.control.core.fault import Fault, text_fault
from shared.contract.records import Authorization, Configuration, Suspension
from shared.contract.standing import Observation, Standing
from shared.mail.address import Fault as DomainFault
from shared.mail.address import normalise_domain

NAME_LENGTH = 250
DESCRIPTION_LENGTH = 250
DOMAIN_LENGTH = 512
_SPF = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_SPF_END = re.compile(r"(?:[-~?+]?all|redirect=\S+)(?= |$)", re.IGNORECASE)

RecordState = Literal["fine", "missing", "wrong", "unknown", "advised"]
Verification = Literal["PENDING", "SUCCESSFUL"]


class RecordAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """One DNS record: what to publish, and what was last seen."""

    kind: Literal["spf", "dkim", "dmarc"]
    name: str
    value: str
    """The whole TXT value to publish; for SPF merged with what is there already."""
    state: RecordState
    detail: str
    observed: tuple[str, ...] = ()


def configuration_faults(name: str, domain: str, description: str) -> tuple[Fault, ...]:
    """Check what a customer says of a new configuration; every fault is listed."""
    faults = text_fault("name", name, 1, NAME_LENGTH) + text_fault("description", description, 0, DESCRIPTION_LENGTH)
    if not 1 <= len(domain) <= DOMAIN_LENGTH:
        return (*faults, Fault("invalid_length", f"domain must have 1 to {DOMAIN_LENGTH} characters", "domain"))
    normal = normalise_domain(domain)
    if isinstance(normal, DomainFault):
        return (*faults, Fault("invalid_domain", f"domain cannot be used: {normal.reason}", "domain"))
    return faults


def dkim_value(public_key: bytes) -> str:
    """Return the TXT value of a DKIM key from its SubjectPublicKeyInfo in DER."""  # RFC 6376 §3.6.1
    return f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(public_key).decode()}"


def dkim_name(configuration: Configuration) -> str:
    """Return the name the public key is published at."""
    return f"{configuration.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1


def spf_value(include: str, egress_addresses: Sequence[str]) -> str:
    """Return the SPF policy to advise; empty if the operator has named neither an include nor addresses."""
    if include:
        return f"v=spf1 include:{include} -all"
    mechanisms = [f"ip6:{address}" if ":" in address else f"ip4:{address}" for address in egress_addresses]
    return f"v=spf1 {' '.join(mechanisms)} -all" if mechanisms else ""


def merged_spf(advised: str, observed: Sequence[str]) -> str:
    """Return the policy to publish: what the domain has already, with our mechanisms added before its end."""
    policies = [value for value in observed if _SPF.match(value)]
    if len(policies) != 1:
        return advised  # none yet; or several, which RFC 7208 §4.5 makes an error however each of them reads
    present = policies[0].strip()
    ours = [term for term in advised.split()[1:] if not _SPF_END.fullmatch(term)]
    missing = [term for term in ours if term.lower() not in present.lower().split()]
    if not missing:
        return present
    end = _SPF_END.search(present)
    if end is None:
        return f"{present} {' '.join(missing)}"
    return f"{present[: end.start()]}{' '.join(missing)} {present[end.start() :]}"


def records(configuration: Configuration, standing: Standing | None, contacts: Sequence[str] = ()) -> tuple[
    RecordAdvice, ...
]:  # fmt: skip
    """Return the records of a configuration's domain with what the verifier last saw of them."""
    spf, dkim = (standing.spf, standing.dkim) if standing else (None, None)
    spf_seen = tuple(value for value in spf.values if _SPF.match(value)) if spf else ()
    spf_text = merged_spf(configuration.spf_value, spf_seen)
    if len(spf_seen) > 1:
        detail = f"{len(spf_seen)} SPF records are published; a domain must have one (RFC 7208 §3.2): replace them all"
    else:
        detail = _detail(spf)
    report = f"; rua=mailto:{contacts[0]}" if contacts else ""
    return (
        RecordAdvice(
            kind="dkim",
            name=dkim_name(configuration),
            value=configuration.dkim_value,
            state=_state(dkim, dkim.values if dkim else ()),
            detail=_detail(dkim),
            observed=dkim.values if dkim else (),
        ),
        RecordAdvice(
            kind="spf",
            name=configuration.domain,
            value=spf_text,
            state=_state(spf, spf_seen),
            detail=detail,
            observed=spf_seen,
        ),
        RecordAdvice(
            kind="dmarc",
            name=f"_dmarc.{configuration.domain}",
            value=f"v=DMARC1; p=none{report}",
            state="advised",
            detail="recommended, not required: tells receivers what to do with mail that fails SPF and DKIM",
        ),
    )


def _state(seen: Observation | None, values: Sequence[str]) -> RecordState:
    if seen is None or seen.verdict == "unknown":
        return "unknown"
    if seen.verdict == "pass":
        return "fine"
    return "wrong" if values else "missing"


def _detail(seen: Observation | None) -> str:
    return seen.detail if seen else "not checked yet"


def verification(standing: Standing | None, which: Literal["spf", "dkim"]) -> Verification:
    """Return how IBM's API shows the state of a record: a degraded domain still sends, a suspended one does not."""
    if standing is None:
        return "PENDING"
    if standing.state in ("verified", "degraded"):
        return "SUCCESSFUL"
    seen = standing.spf if which == "spf" else standing.dkim
    return "SUCCESSFUL" if seen is not None and seen.verdict == "pass" else "PENDING"


def authorized(authorization: Authorization | None) -> Verification:
    """Return how IBM's API shows the operator's decision."""
    return "SUCCESSFUL" if authorization is not None and authorization.status == "approved" else "PENDING"


def missing(
    standing: Standing | None, authorization: Authorization | None, suspension: Suspension | None
) -> tuple[str, ...]:
    """Name what keeps a configuration from sending, each with what to do; empty: it may send."""
    lacking: list[str] = []
    if suspension is not None:
        lacking.append(f"the operator has suspended sending: {suspension.reason}")
    if standing is None:
        lacking.append("SPF and DKIM have not been checked yet: publish the records, then verify")
    elif standing.state in ("pending", "suspended"):
        failing = [
            f"{name}: {seen.detail}"
            for name, seen in (("SPF", standing.spf), ("DKIM", standing.dkim))
            if seen is not None and seen.verdict != "pass"
        ]
        lacking += failing or [standing.reason or "the records are not verified yet"]
    if authorization is None:
        lacking.append("the authorization questionnaire has not been submitted")
    elif authorization.status == "submitted":
        lacking.append("the operator has not decided on the authorization yet")
    elif authorization.status == "rejected":
        lacking.append(f"the operator has rejected the authorization: {authorization.reason or 'no reason given'}")
    return tuple(lacking)
