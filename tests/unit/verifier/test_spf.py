"""SPF evaluation: what the public suite does not cover, and what the verifier relies on."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core.answer import Absent, Answer, Question, Records, Unknown
from services.verifier.core.spf import Limits, Outcome, check_host
from services.verifier.core.spf_record import SpfRecord, SyntaxFault, parse

Zone = Mapping[tuple[str, str], Answer | tuple[str, ...]]
OURS = "192.0.2.1"


def evaluate(zone: Zone, address: str = OURS, limits: Limits | None = None) -> tuple[Outcome, list[Question]]:
    """Evaluate example.com against a zone of values; what it does not name is absent."""
    evaluation = check_host(address, "example.com", "postmaster@example.com", "relay.example", limits)
    asked: list[Question] = []
    try:
        question = next(evaluation)
        while True:
            asked.append(question)
            found = zone.get((question.name, question.kind), Absent())
            question = evaluation.send(Records(found) if isinstance(found, tuple) else found)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome, asked


def chain(length: int) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return a zone in which `length` includes lead one to the next and the last one authorises us."""
    names = ["example.com", *(f"n{i}.example" for i in range(1, length + 1))]
    zone: dict[tuple[str, str], tuple[str, ...]] = {
        (name, "TXT"): (f"v=spf1 include:{after} -all",) for name, after in pairwise(names)
    }
    zone[names[-1], "TXT"] = (f"v=spf1 ip4:{OURS} -all",)
    return zone


@pytest.mark.parametrize(("length", "result"), [(1, "pass"), (10, "pass"), (11, "permerror"), (300, "permerror")])
def test_ten_lookups_are_allowed_and_the_eleventh_is_an_error(length: int, result: str) -> None:
    """Nested includes count wherever they stand, and a long chain ends early."""
    outcome, asked = evaluate(chain(length))
    assert outcome.result == result
    assert len(asked) <= 11


def test_an_include_loop_ends_in_an_error() -> None:
    """A record that includes itself stops at the limit."""
    outcome, asked = evaluate({("example.com", "TXT"): ("v=spf1 include:example.com -all",)})
    assert outcome.result == "permerror"
    assert len(asked) == 11


@pytest.mark.parametrize(("voids", "result"), [(2, "pass"), (3, "permerror")])
def test_two_void_lookups_are_allowed_and_the_third_is_an_error(voids: int, result: str) -> None:
    """Terms whose question finds nothing are counted."""
    terms = " ".join(f"a:gone{i}.example" for i in range(voids))
    outcome, _ = evaluate({("example.com", "TXT"): (f"v=spf1 {terms} ip4:{OURS} -all",)})
    assert outcome.result == result


def test_an_ipv6_address_is_not_failed_by_exchangers_that_have_only_ipv4() -> None:
    """The void limit counts terms: a domain's mx is one of them, however many hosts without AAAA it names."""
    zone = {("example.com", "TXT"): ("v=spf1 mx ip6:2001:db8::/32 -all",), ("example.com", "MX"): tuple("abcde")}
    outcome, _ = evaluate(zone, "2001:db8::1")
    assert outcome.result == "pass"


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("V=SPF1 IP4:192.0.2.0/24 -ALL", "pass"),
        ("v=spf1 ip4:192.0.2.1   ", "pass"),
        ("v=spf10 ip4:192.0.2.1 -all", "none"),
        ("v=spf1 redirect=other.example", "pass"),
        ("v=spf1 redirect=other.example -all", "fail"),
        ("v=spf1 redirect=nothing.example", "permerror"),
        ("v=spf1 exists:%{i}._spf.%{d2} -all", "pass"),
        ("v=spf1 exists:%{ir}.%{v}.list.example ~all", "softfail"),
        ("v=spf1 a -all", "fail"),
        ("v=spf1 a:host.example/24 -all", "pass"),
        ("v=spf1 mx:example.com//64 -all", "pass"),
        ("v=spf1 ptr:example.net -all", "pass"),
        ("v=spf1 include:neutral.example", "neutral"),
        ("v=spf1 ip4:192.0.2.256 -all", "permerror"),
        ("v=spf1 a:host.example/33 -all", "permerror"),
        ("v=spf1 exists:%{z} -all", "permerror"),
        ("v=spf1 ip4:192.0.2.1 redirect=a.example redirect=b.example", "permerror"),
        ("v=spf1\tip4:192.0.2.1", "none"),
    ],
)
def test_a_record_has_the_result_of_rfc_7208(record: str, result: str) -> None:
    """Case, spaces, macros, redirect, prefix lengths, syntax errors anywhere."""
    zone: dict[tuple[str, str], tuple[str, ...]] = {
        ("example.com", "TXT"): (record, "some other text"),
        ("example.com", "MX"): ("mail.example",),
        ("mail.example", "A"): (OURS,),
        ("other.example", "TXT"): (f"v=spf1 ip4:{OURS} -all",),
        ("neutral.example", "TXT"): ("v=spf1 ?all",),
        ("192.0.2.1._spf.example.com", "A"): ("127.0.0.2",),
        ("host.example", "A"): ("192.0.2.77",),
        ("1.2.0.192.in-addr.arpa", "PTR"): ("mail.example.net",),
        ("mail.example.net", "A"): (OURS,),
    }
    assert evaluate(zone)[0].result == result


def test_two_records_are_an_error_that_says_so() -> None:
    """Two SPF records are a permerror, whichever would authorise us."""
    outcome, _ = evaluate({("example.com", "TXT"): (f"v=spf1 ip4:{OURS} -all", "v=spf1 -all")})
    assert (outcome.result, outcome.reason) == (
        "permerror", "example.com has 2 SPF records, there must be exactly one",
    )  # fmt: skip


@pytest.mark.parametrize("term", ["include:x.example", "a:x.example", "mx:x.example", "exists:x.example"])
def test_what_nobody_can_answer_is_a_temporary_error(term: str) -> None:
    """An unknown answer never becomes a judgement."""
    zone: dict[tuple[str, str], Answer | tuple[str, ...]] = {("example.com", "TXT"): (f"v=spf1 {term} -all",)}
    for kind in ("TXT", "A", "MX"):
        zone["x.example", kind] = Unknown("the name servers did not answer in time")
    assert evaluate(zone)[0].result == "temperror"


def test_the_budget_of_questions_ends_an_evaluation_without_a_judgement() -> None:
    """A record that takes too many questions is not evaluated to its end, and nothing is decided."""
    zone = {
        ("example.com", "TXT"): ("v=spf1 mx -all",),
        ("example.com", "MX"): tuple(f"m{i}.example" for i in range(9)),
    }
    outcome, asked = evaluate(zone, limits=Limits(questions=5))
    assert outcome.result == "temperror"
    assert len(asked) == 5


TEXT = st.text(st.sampled_from("v=spf1 aeimnpxlc:/%{}.-+~?0123456789\x00\xff"), max_size=60)


@given(TEXT)
def test_any_text_parses_or_is_refused_with_a_reason(text: str) -> None:
    """The parser never raises."""
    parsed = parse("v=spf1 " + text)
    assert isinstance(parsed, SpfRecord) or (isinstance(parsed, SyntaxFault) and parsed.reason)


@given(TEXT)
def test_any_record_is_evaluated_within_the_limits(text: str) -> None:
    """Whatever a record says, an evaluation ends, with few questions and without raising."""
    _, asked = evaluate({("example.com", "TXT"): ("v=spf1 " + text,)})
    assert len(asked) <= 21
