"""The DMARC record of a domain (RFC 7489 §6.3). It is advice only: no standing depends on it."""

import re

from services.verifier.core.answer import Absent, Answer, Records, Unknown
from services.verifier.core.dkim_record import Finding

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_POLICY = re.compile(r";[ \t]*p[ \t]*=[ \t]*(none|quarantine|reject)[ \t]*(?:;|$)", re.IGNORECASE)
ADVISED = "v=DMARC1; p=none"


def dmarc_name(domain: str) -> str:
    """Return the name of a domain's DMARC record."""
    return f"_dmarc.{domain}"


def judge(answer: Answer, domain: str) -> Finding:
    """Judge what was answered for TXT at `dmarc_name(domain)`."""
    name = dmarc_name(domain)
    match answer:
        case Unknown(why):
            return Finding(verdict="unknown", detail=f"The DMARC record at {name} could not be looked up: {why}.")
        case Absent():
            return Finding(verdict="fail", detail=_missing(name))
        case Records(values):
            found = tuple(value for value in values if _VERSION.match(value))
            if not found:
                return Finding(verdict="fail", detail=_missing(name), values=values)
            if len(found) > 1:  # RFC 7489 §6.6.3: then there is no policy
                detail = f"There are {len(found)} DMARC records at {name}, so receivers use none: keep one."
                return Finding(verdict="fail", detail=detail, values=found)
            policy = _POLICY.search(found[0])
            if policy is None:
                detail = f"The DMARC record at {name} has no policy (p=none, quarantine or reject)."
                return Finding(verdict="fail", detail=detail, values=found)
            detail = f"The DMARC record at {name} asks receivers for the policy {policy[1].lower()}."
            return Finding(verdict="pass", detail=detail, values=found)


def _missing(name: str) -> str:
    return f"There is no DMARC record at {name}: publish at least '{ADVISED}', many receivers ask for one."
