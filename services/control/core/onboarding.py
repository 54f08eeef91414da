"""From a new configuration to the first message: what is given to publish, what is missing."""

import base64
from collections.abc import Sequence
from typing import Literal

from services.control.core.fault import Fault, text_fault
from shared.contract.records import Authorization, Suspension
from shared.contract.standing import Standing
from shared.mail.address import Fault as DomainFault
from shared.mail.address import normalise_domain

NAME_LENGTH = 250
DESCRIPTION_LENGTH = 250
DOMAIN_LENGTH = 512
SPECIAL_USE = ("localhost", "local", "internal", "invalid", "onion", "alt", "arpa")  # RFC 6761 §6
DOMAIN_RULES = (
    "Give the domain of your senders' addresses, without a trailing dot, such as example.com or mail.example.com, in "
    "letters of any script; you must be able to publish TXT records in it. A sub-domain is a domain of its own, with a "
    "configuration and records of its own"
)

Verification = Literal["PENDING", "SUCCESSFUL"]


def configuration_faults(name: str, domain: str, description: str) -> tuple[Fault, ...]:
    """Check what a customer says of a new configuration; every fault is listed."""
    faults = text_fault("name", name, 1, NAME_LENGTH) + text_fault("description", description, 0, DESCRIPTION_LENGTH)
    if not 1 <= len(domain) <= DOMAIN_LENGTH:
        return (*faults, Fault("invalid_length", f"domain must have 1 to {DOMAIN_LENGTH} characters", "domain"))
    normal = normalise_domain(domain)
    if isinstance(normal, DomainFault):
        told = f"domain cannot be used: {normal.reason}. {DOMAIN_RULES}"
        return (*faults, Fault("invalid_domain", told, "domain"))
    special = next((name for name in SPECIAL_USE if normal == name or normal.endswith(f".{name}")), "")
    if special:
        told = f"domain cannot be used: names below {special} are not in the public DNS. {DOMAIN_RULES}"
        return (*faults, Fault("invalid_domain", told, "domain"))
    return faults


def dkim_value(public_key: bytes) -> str:
    """Return the TXT value of a DKIM key from its SubjectPublicKeyInfo in DER."""  # RFC 6376 §3.6.1
    return f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(public_key).decode()}"


def ed25519_value(public_key: bytes) -> str:
    """Return the TXT value of an Ed25519 key from its 32 octets."""  # RFC 8463 §4.2
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(public_key).decode()}"


def spf_value(include: str, egress_addresses: Sequence[str]) -> str:
    """Return the SPF policy to advise; empty if the operator has named neither an include nor addresses."""
    if include:
        return f"v=spf1 include:{include} -all"
    mechanisms = [f"ip6:{address}" if ":" in address else f"ip4:{address}" for address in egress_addresses]
    return f"v=spf1 {' '.join(mechanisms)} -all" if mechanisms else ""


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
