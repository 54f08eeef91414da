"""Our SPF evaluation against pyspf on records nobody wrote: whatever Hypothesis makes up, both must come to one result.

Both read the same zone. Left out is where pyspf departs from the RFC: it counts every empty look-up where RFC 7208
§4.6.4 counts terms, refuses unknown modifiers that appear twice (§6: ignored however often), accepts `exists` without
an argument (§5.7 has none), and refuses a record that includes itself before it looks at the terms in front (§4.6.2).
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import spf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from services.verifier.core.answer import Absent, Question, Records
from services.verifier.core.spf import Outcome, check_host

pytestmark = pytest.mark.judge
judge: Any = spf
ADDRESSES = ("192.0.2.1", "192.0.2.77", "198.51.100.9", "2001:db8::1", "2001:db8:1::9")
NAMES = ("example.com", "a.example.com", "b.example", "c.example", "mail.example")
Zone = Mapping[tuple[str, str], tuple[str, ...]]

DOMAINS = st.sampled_from(
    [*NAMES, "gone.example", "%{d}", "%{o}", "%{d1r}.example", "a.%{d2}", "%{l}.example", "%{ir}.%{v}.example", "%{h}"]
)
CIDR = st.sampled_from(["", "", "", "/24", "/32", "//64", "/16//48", "/0", "/33", "//129", "/", "/08"])
NETWORKS = st.sampled_from(
    ["ip4:192.0.2.1", "ip4:192.0.2.0/24", "ip4:198.51.100.0/25", "ip4:192.0.2", "ip4:192.0.2.1/33", "ip4:192.0.2.1/"]
    + ["ip6:2001:db8::/32", "ip6:2001:db8::1", "ip6:2001:db8::/129", "ip6::192.0.2.1", "ip4:2001:db8::1", "ip6"]
)
MECHANISMS = st.one_of(
    st.sampled_from(["all", "a", "mx", "ptr", "all:x", "include", "moo", "a.b", "mx/24", "a:", "a:example"]),
    NETWORKS,
    st.builds("include:{}".format, DOMAINS),
    st.builds("exists:{}".format, DOMAINS),
    st.builds("a:{}{}".format, DOMAINS, CIDR),
    st.builds("mx:{}{}".format, DOMAINS, CIDR),
    st.builds("ptr:{}".format, DOMAINS),
)
DIRECTIVES = st.builds("{}{}".format, st.sampled_from(["", "", "", "+", "-", "~", "?", "*"]), MECHANISMS)
MODIFIERS = st.one_of(
    st.builds("redirect={}".format, DOMAINS),
    st.sampled_from(["exp=c.example", "x=%{i}", "x=%{q}", "y=", "redirect=", "exp=", "a.b=c", "1=2"]),
)
RECORDS = st.builds(
    lambda version, terms, last: " ".join([version, *terms, *last]),
    st.sampled_from(["v=spf1", "v=spf1", "v=spf1", "V=SPF1", "v=spf1 ", "v=spf10"]),
    st.lists(st.one_of(DIRECTIVES, DIRECTIVES, DIRECTIVES, MODIFIERS), max_size=4),
    st.sampled_from([(), ("-all",), ("~all",), ("?all",)]),
)


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    """Every name has addresses and an exchanger; SPF records are made up."""
    zone: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in NAMES:
        zone[name, "A"] = (draw(st.sampled_from(ADDRESSES[:3])),)
        zone[name, "AAAA"] = (draw(st.sampled_from(ADDRESSES[3:])),)
        zone[name, "MX"] = (draw(st.sampled_from(NAMES)),)
        records = draw(st.lists(RECORDS, min_size=1, max_size=2 if draw(st.integers(0, 9)) == 0 else 1))
        zone[name, "TXT"] = tuple(records)
    for address in ADDRESSES:
        zone[ipaddress.ip_address(address).reverse_pointer, "PTR"] = (draw(st.sampled_from(NAMES)),)
    return zone


def disputed(zone: Zone) -> bool:
    """Tell whether a record has what pyspf judges in its own way."""
    for (name, kind), values in zone.items():
        for term in " ".join(values).split() if kind == "TXT" else ():
            bare = term.lstrip("+-~?")
            if bare in ("include:%{o}", "include:%{d}", f"include:{name}"):
                return True
            if re.match(r"(?!redirect|exp)[a-z.]+=", term) and values[0].split().count(term) > 1:
                return True
    return False


def ours(zone: Zone, address: str, sender: str, helo: str) -> Outcome:
    evaluation = check_host(address, sender.rpartition("@")[2], sender, helo)
    try:
        question: Question = next(evaluation)
        while True:
            found = zone.get((question.name, question.kind))
            question = evaluation.send(Records(found) if found else Absent())
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def theirs(zone: Zone, address: str, sender: str, helo: str) -> str:
    def look_up(name: str, kind: str, *_: Any, **__: Any) -> Iterator[Any]:
        for value in zone.get((name.rstrip(".").lower(), kind), ()):
            match kind:
                case "TXT":
                    yield (name, kind), (value.encode(),)
                case "MX":
                    yield (name, kind), (10, value)
                case "AAAA":
                    yield (name, kind), ipaddress.ip_address(value).packed
                case _:
                    yield (name, kind), value

    judge.DNSLookup = look_up
    result, _, _ = judge.query(i=address, s=sender, h=helo, strict=True).check()
    return str(result)


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(zones(), st.sampled_from(ADDRESSES), st.sampled_from(["user@example.com", "b@a.example.com", "x-y@b.example"]))
def test_made_up_records_have_the_same_result_with_pyspf(zone: Zone, address: str, sender: str) -> None:
    """One result, over terms, macros, prefix lengths, syntax errors, includes and redirects of every kind."""
    assume(not disputed(zone))
    outcome = ours(zone, address, sender, "mail.example")
    assume(outcome.voids < 2)
    assert outcome.result == theirs(zone, address, sender, "mail.example"), outcome.reason
