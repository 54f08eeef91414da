"""DKIM key records, as receivers read them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.verifier.core.answer import Absent, Evidence, Records, Unknown
from services.verifier.core.dkim_record import judge, parse

KEY = base64.b64encode(bytes(range(256)) + b"padding of a longer key").decode()
OTHER = base64.b64encode(bytes(reversed(range(256)))).decode()
OURS = f"v=DKIM1; k=rsa; p={KEY}"
NAME = "s1._domainkey.example.com"


@pytest.mark.parametrize(
    "value",
    [
        OURS,
        f"v=DKIM1;p={KEY}",
        f"p={KEY}",
        f"v=DKIM1; p={KEY};",
        f"v=DKIM1; p={KEY}; ",
        f" v = DKIM1 ; k = rsa ; p = {KEY[:80]} \r\n {KEY[80:]} ",
        f"v=DKIM1; h=sha1:sha256; p={KEY}",
        f"v=DKIM1; s=email; p={KEY}",
        f"v=DKIM1; t=s; p={KEY}",
        f"v=DKIM1; n=a note; x=unknown tag; p={KEY}",
    ],
)
def test_our_key_is_found_however_it_is_written(value: str) -> None:
    """Defaults, white space, a trailing semicolon and tags nobody knows do not matter."""
    assert judge(Records((value,)), NAME, OURS).verdict == "pass"


@pytest.mark.parametrize(
    ("values", "saying"),
    [
        ((f"v=DKIM1; p={OTHER}",), "another key"),
        ((f"v=DKIM1; p={KEY[:200]}",), "only a part"),
        ((f"v=DKIM1; p={KEY[:201]}",), "not base64"),
        (("v=DKIM1; p=",), "revoked"),
        ((f"v=DKIM1; k=ed25519; p={KEY}",), "type ed25519"),
        ((f"v=DKIM1; h=sha1; p={KEY}",), "only the hash sha1"),
        ((f"v=DKIM1; s=other; p={KEY}",), "not for e-mail"),
        ((f"v=DKIM2; p={KEY}",), "must come first and be DKIM1"),
        ((f"k=rsa; v=DKIM1; p={KEY}",), "must come first"),
        ((f"v=DKIM1; p={KEY}; p={KEY}",), "twice"),
        ((f"v=DKIM1 k=rsa p={KEY}",), "v= must come first"),
        ((f"v=DKIM1; rsa; p={KEY}",), "not of the form tag=value"),
        (("v=DKIM1; k=rsa",), "no p="),
        (("v=spf1 -all",), "not a DKIM key"),
        ((OURS, f"v=DKIM1; p={OTHER}"), "2 DKIM keys"),
    ],
)
def test_a_record_that_receivers_cannot_use_is_a_failure_that_names_the_cure(
    values: tuple[str, ...], saying: str
) -> None:
    """Each fault has its own sentence."""
    finding = judge(Records(values), NAME, OURS)
    assert finding.verdict == "fail"
    assert saying in finding.detail
    assert finding.values == values


def test_testing_mode_and_a_stranger_beside_the_key_are_noted_and_pass() -> None:
    """t=y and another TXT record are worth a word, not a suspension."""
    testing = judge(Records((f"v=DKIM1; t=y:s; p={KEY}",)), NAME, OURS)
    beside = judge(Records(("verification=abc", OURS)), NAME, OURS)
    assert (testing.verdict, beside.verdict) == ("pass", "pass")
    assert "t=y" in testing.detail
    assert "another TXT record" in beside.detail


def test_absence_is_a_failure_and_silence_is_not() -> None:
    """NXDOMAIN and no data are definitive; an unanswered question is unknown."""
    gone = judge(Absent(Evidence(rcode="NXDOMAIN", canonical="keys.relay.example")), NAME, OURS)
    assert gone.verdict == "fail"
    assert "keys.relay.example" in gone.detail
    assert judge(Unknown("the name server answered SERVFAIL"), NAME, OURS).verdict == "unknown"


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_any_text_is_judged(text: str) -> None:
    """No octets raise, and none but our key pass."""
    assert judge(Records((text,)), NAME, OURS).verdict == "fail"
    parse(text)
