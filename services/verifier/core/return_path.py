"""Whether what comes back to a domain's senders can arrive (RFC 5321 §5.1). It is advice: no standing depends on it.

The envelope sender stays the customer's own address, so bounces of later servers and answers go to that domain.
"""

from services.verifier.core.answer import Absent, Answer, Records, Unknown, printable
from services.verifier.core.dkim_record import Finding


def judge(exchangers: Answer, addresses: tuple[Answer, ...], domain: str) -> Finding:
    """Judge the answers for MX and for A and AAAA at a domain."""
    match exchangers:
        case Unknown(why):
            return Finding(verdict="unknown", detail=f"The MX records of {domain} could not be looked up: {why}.")
        case Records(values) if set(values) == {""}:  # RFC 7505 §3
            detail = f"{domain} has a null MX record, so nothing can come back to its senders, and many receivers "
            detail += "refuse mail of such a domain (RFC 7505): replace it."
            return Finding(verdict="fail", detail=detail, values=(".",))
        case Records(values):
            hosts = tuple(printable(value) for value in values)
            return Finding(verdict="pass", detail=f"Bounces and answers go to {', '.join(hosts[:3])}.", values=hosts)
        case Absent():
            return _implicit(addresses, domain)


def _implicit(addresses: tuple[Answer, ...], domain: str) -> Finding:
    known = [answer for answer in addresses if isinstance(answer, Records)]
    if known:  # RFC 5321 §5.1: the domain itself is then its exchanger
        hosts = tuple(value for answer in known for value in answer.values)
        detail = f"{domain} has no MX record: bounces and answers go to its address; an MX record is better."
        return Finding(verdict="pass", detail=detail, values=hosts)
    if any(isinstance(answer, Unknown) for answer in addresses):
        return Finding(verdict="unknown", detail=f"The addresses of {domain} could not be looked up.")
    detail = f"{domain} has neither MX nor address records, so nothing can come back to its senders: publish an MX."
    return Finding(verdict="fail", detail=detail)
