"""What is judged beside the standing: return path, proofs of domains, delegated keys."""

import pytest

from services.verifier.core import challenge, dkim_record, return_path
from services.verifier.core.answer import Absent, Answer, Evidence, Records, Unknown

DOMAIN = "example.com"
NONE: tuple[Answer, ...] = (Absent(), Absent())


@pytest.mark.parametrize(
    ("exchangers", "addresses", "verdict", "told"),
    [
        (Records(("mx.example.com",)), NONE, "pass", "mx.example.com"),
        (Records(("",)), (Records(("192.0.2.1",)), Absent()), "fail", "null MX"),
        (Absent(), (Records(("192.0.2.1",)), Absent()), "pass", "no MX record"),
        (Absent(), NONE, "fail", "publish an MX"),
        (Absent(), (Absent(), Unknown("no answer")), "unknown", "could not be looked up"),
        (Unknown("SERVFAIL"), NONE, "unknown", "SERVFAIL"),
    ],
)
def test_what_comes_back_must_be_able_to_arrive(
    exchangers: Answer, addresses: tuple[Answer, ...], verdict: str, told: str
) -> None:
    """An exchanger, or at least an address; a null MX says that nothing may come."""
    finding = return_path.judge(exchangers, addresses, DOMAIN)
    assert finding.verdict == verdict
    assert told in finding.detail


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Records(("something else", "postlane-proof=abc")), "pass"),
        (Records((" postlane-proof=abc ",)), "pass"),
        (Records(("postlane-proof=abcd",)), "fail"),
        (Absent(), "fail"),
        (Unknown("no answer"), "unknown"),
    ],
)
def test_a_proof_is_exactly_the_value_that_was_given(answer: Answer, verdict: str) -> None:
    """Among other records or not; nothing but it will do, and silence proves nothing."""
    finding = challenge.judge(answer, "_postlane-challenge.example.com", "postlane-proof=abc")
    assert finding.verdict == verdict
    if verdict == "fail":
        assert "publish 'postlane-proof=abc'" in finding.detail


def test_a_delegated_key_that_is_missing_names_who_has_to_act() -> None:
    """Without the CNAME the customer; with it, and nothing behind it, the operator."""
    target = "s1.dkim.relay.example"
    asked = dkim_record.judge(Absent(), "s1._domainkey.example.com", "v=DKIM1; p=AAAA", target)
    assert "publish a CNAME record to s1.dkim.relay.example" in asked.detail
    led = dkim_record.judge(Absent(Evidence(canonical=target)), "s1._domainkey.example.com", "v=DKIM1; p=AAAA", target)
    assert "operator has not published" in led.detail
    astray = dkim_record.judge(Absent(Evidence(canonical="x.example")), "s1._domainkey.example.com", "p=AAAA", target)
    assert "x.example, where it points" in astray.detail


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Absent(Evidence(canonical="t.dkim.relay.example")), "pass"),
        (Records(("v=DKIM1; p=",), Evidence(canonical="t.dkim.relay.example")), "pass"),
        (Unknown("no answer", Evidence(canonical="t.dkim.relay.example")), "pass"),
        (Absent(Evidence(canonical="elsewhere.example")), "fail"),
        (Absent(), "fail"),
        (Records(("v=DKIM1; p=AAAA",)), "fail"),
        (Unknown("no answer"), "unknown"),
    ],
)
def test_an_alias_is_judged_by_where_it_leads(answer: Answer, verdict: str) -> None:
    """The operator publishes behind it only when a rotation begins."""
    finding = dkim_record.judge_alias(answer, "t._domainkey.example.com", "t.dkim.relay.example")
    assert finding.verdict == verdict
