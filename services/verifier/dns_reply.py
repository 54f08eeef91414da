"""Reading a DNS reply: what counts as found, as certainly absent, and as unknown.

Certainly absent is what the zone says of itself: NXDOMAIN, or NOERROR without data from the zone's own server or with
its SOA (RFC 2308 §2). Everything else that is not an answer is unknown: SERVFAIL (bogus DNSSEC included), REFUSED,
referrals of lame servers, empty replies nobody vouches for.
"""

from dataclasses import dataclass

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from services.verifier.core.answer import Absent, Answer, Evidence, Question, Records, Unknown


@dataclass(frozen=True)
class Elsewhere:
    """The reply ends in a CNAME whose target it does not cover: ask for `name` next."""

    name: str
    evidence: Evidence


def read(reply: dns.message.Message, question: Question, resolver: str, *, trust_bare: bool) -> Answer | Elsewhere:
    """Turn a reply to `question` into an answer.

    `trust_bare`: believe an empty NOERROR without SOA; some forwarders strip the SOA.
    """
    rcode = dns.rcode.to_text(reply.rcode())
    evidence = Evidence(resolver=resolver, rcode=rcode)
    if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Unknown(f"the name server answered {rcode}{_extended(reply)}", evidence)
    if not isinstance(reply, dns.message.QueryMessage):
        return Unknown("the name server's reply does not answer a question", evidence)
    try:
        chain = reply.resolve_chaining()
    except dns.exception.DNSException as fault:
        return Unknown(f"the name server's reply is contradictory ({type(fault).__name__})", evidence)
    canonical = text_of(chain.canonical_name) if chain.cnames else ""
    evidence = Evidence(resolver=resolver, rcode=rcode, ttl=chain.minimum_ttl, canonical=canonical)
    if chain.answer is not None:
        return Records(_values(chain.answer, question), evidence)
    if reply.rcode() == dns.rcode.NXDOMAIN:
        return Absent(evidence)
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in reply.authority)
    has_ns = any(rrset.rdtype == dns.rdatatype.NS for rrset in reply.authority)
    if chain.cnames and not has_soa:
        return Elsewhere(canonical, evidence)
    if has_soa or (reply.flags & dns.flags.AA and not has_ns):
        return Absent(evidence)
    if has_ns:  # RFC 2308 §2.2: a referral, from a server that should have answered
        return Unknown("the name server only refers to others (lame delegation?)", evidence)
    if trust_bare:
        return Absent(evidence)
    return Unknown("the name server's reply is empty and nobody vouches for it (no SOA record)", evidence)


def text_of(name: dns.name.Name) -> str:
    """Return a name in lower case without the trailing dot; "" is the root."""
    return name.to_text(omit_final_dot=True).lower().removesuffix(".")


def name_of(text: str) -> dns.name.Name | None:
    """Return a name as DNS writes it, or None if DNS cannot hold it; a dot always separates labels."""
    try:
        return dns.name.Name([label.encode("latin-1") for label in text.removesuffix(".").split(".")] + [b""])
    except (dns.exception.DNSException, UnicodeEncodeError):
        return None


def _values(rrset: dns.rrset.RRset, question: Question) -> tuple[str, ...]:
    match question.kind:
        case "TXT":
            # RFC 7208 §3.3, RFC 6376 §3.6.2.2: strings are joined without spaces
            return tuple(sorted(b"".join(rdata.strings).decode("latin-1") for rdata in rrset))
        case "MX":
            return tuple(text_of(rdata.exchange) for rdata in sorted(rrset, key=lambda r: (r.preference, r.exchange)))
        case "PTR" | "NS":
            return tuple(text_of(rdata.target) for rdata in rrset)
        case _:
            return tuple(rdata.address for rdata in rrset)


def _extended(reply: dns.message.Message) -> str:
    """Return what the server says beyond the code (RFC 8914), such as " (DNSSEC Bogus)"."""
    for option in reply.options:
        if isinstance(option, dns.edns.EDEOption):
            try:
                return f" ({dns.edns.EDECode(option.code).name.replace('_', ' ').lower()})"
            except ValueError:
                return f" (extended error {option.code})"
    return ""
