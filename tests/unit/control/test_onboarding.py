"""Records to publish, what was seen of them, and what keeps a configuration from sending."""

from datetime import UTC, datetime

import msgspec
import pytest

from services.control.core import onboarding, record_advice
from shared.contract.records import Authorization, Configuration, PublishedKey, Questionnaire, Suspension
from shared.contract.requests import RecordsSeen
from shared.contract.standing import Observation, Standing, StandingState, Verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)
CONFIGURATION = Configuration(
    id="c",
    instance="i",
    name="n",
    domain="acme.example",
    selector="s",
    dkim_value="v=DKIM1; p=x",
    spf_value="v=spf1 include:spf.relay.example -all",
    created_at=NOW,
    updated_at=NOW,
)
QUESTIONNAIRE = Questionnaire(
    nature="transactional",
    website="https://acme.example/",
    list_source="x",
    bounces_and_complaints="x",
    unsubscribe="x",
    quota_rationale="x",
    list_cleaning="x",
    contacts=("dns@acme.example",),
    reply_to="r@acme.example",
    only_to_requesters=True,
    unsubscribe_link=True,
)
SUBMITTED = Authorization(
    configuration="c", instance="i", status="submitted", questionnaire=QUESTIONNAIRE, submitted_at=NOW
)
APPROVED = msgspec.structs.replace(SUBMITTED, status="approved")


def seen(verdict: Verdict, *values: str) -> Observation:
    return Observation(verdict=verdict, detail=f"it is {verdict}", name="x", at=NOW, values=values)


def standing(state: StandingState, spf: Observation | None = None, dkim: Observation | None = None) -> Standing:
    return Standing(
        configuration="c", instance="i", domain="acme.example", state=state, reason="why", since=NOW, spf=spf, dkim=dkim
    )


@pytest.mark.parametrize(
    ("observed", "merged"),
    [
        ([], "v=spf1 include:spf.relay.example -all"),
        (["v=spf1 mx -all"], "v=spf1 mx include:spf.relay.example -all"),
        (["v=spf1 mx"], "v=spf1 mx include:spf.relay.example"),
        (["v=spf1 mx ?all"], "v=spf1 mx include:spf.relay.example ?all"),
        (["V=SPF1 mx redirect=other.example"], "V=SPF1 mx include:spf.relay.example redirect=other.example"),
        (["v=spf1 INCLUDE:spf.relay.example ~all"], "v=spf1 INCLUDE:spf.relay.example ~all"),
        (["google-site-verification=x", "v=spf1 a ~all"], "v=spf1 a include:spf.relay.example ~all"),
        (["v=spf1 a -all", "v=spf1 mx -all"], "v=spf1 include:spf.relay.example -all"),
        (["v=spf10 a -all"], "v=spf1 include:spf.relay.example -all"),
    ],
)
def test_our_mechanism_joins_the_policy_that_is_there(observed: list[str], merged: str) -> None:
    """A domain has one SPF record, so ours goes into it, before its end."""
    assert record_advice.merged_spf(CONFIGURATION.spf_value, observed) == merged


def test_without_an_include_the_addresses_are_advised() -> None:
    """A relay without a name for its addresses lists them; one that knows neither advises nothing."""
    assert onboarding.spf_value("", ["192.0.2.1", "2001:db8::1"]) == "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 -all"
    assert onboarding.spf_value("", []) == ""


def test_each_record_says_whether_it_is_missing_wrong_or_fine() -> None:
    """What was observed decides; a foreign TXT value is not a wrong SPF record."""
    records = record_advice.from_standing(
        CONFIGURATION, standing("pending", seen("fail", "something else"), seen("fail", "v=DKIM1; p=other"))
    )
    assert [(r.kind, r.state) for r in records] == [("dkim", "wrong"), ("spf", "missing"), ("dmarc", "advised")]
    records = record_advice.from_standing(
        CONFIGURATION, standing("verified", seen("pass", "v=spf1 -all"), seen("unknown"))
    )
    assert [(r.kind, r.state) for r in records][:2] == [("dkim", "unknown"), ("spf", "fine")]
    assert [r.state for r in record_advice.from_standing(CONFIGURATION, None)] == ["unknown", "unknown", "advised"]


def test_two_spf_records_are_one_too_many() -> None:
    """The advice names the fault of a domain with several policies."""
    records = record_advice.from_standing(
        CONFIGURATION, standing("pending", seen("fail", "v=spf1 a", "v=spf1 mx"), None)
    )
    assert "2 SPF records" in records[1].detail


def test_dmarc_reports_go_to_the_first_contact() -> None:
    """The advised DMARC policy has an address if one is known."""
    assert record_advice.from_standing(CONFIGURATION, None, ["dns@acme.example"])[2].value.endswith(
        "rua=mailto:dns@acme.example"
    )


@pytest.mark.parametrize(
    ("state", "verdict", "shown"),
    [
        ("pending", "pass", "SUCCESSFUL"),
        ("pending", "fail", "PENDING"),
        ("pending", "unknown", "PENDING"),
        ("verified", "pass", "SUCCESSFUL"),
        ("degraded", "fail", "SUCCESSFUL"),
        ("suspended", "fail", "PENDING"),
        ("suspended", "pass", "SUCCESSFUL"),
    ],
)
def test_ibm_sees_a_degraded_domain_as_successful(state: StandingState, verdict: Verdict, shown: str) -> None:
    """Only the two words of IBM's API are used; what still sends is successful."""
    assert onboarding.verification(standing(state, seen(verdict), seen(verdict)), "spf") == shown


def test_all_that_is_missing_is_named() -> None:
    """The operator's suspension comes first, then DNS, then the decision."""
    suspension = Suspension(configuration="c", reason="abuse", by="op", at=NOW)
    lacking = onboarding.missing(standing("pending", seen("pass"), seen("fail")), SUBMITTED, suspension)
    assert [text.split(":")[0] for text in lacking] == [
        "the operator has suspended sending",
        "DKIM",
        "the operator has not decided on the authorization yet",
    ]
    assert len(onboarding.missing(None, None, None)) == 2


@pytest.mark.parametrize("state", ["verified", "degraded"])
def test_a_verified_approved_configuration_lacks_nothing(state: StandingState) -> None:
    """Degraded domains go on sending."""
    assert onboarding.missing(standing(state, seen("fail"), seen("pass")), APPROVED, None) == ()
    assert onboarding.missing(standing(state), msgspec.structs.replace(APPROVED, status="rejected"), None) != ()


def test_every_fault_of_a_configuration_is_listed() -> None:
    """Name, description and domain are checked together."""
    faults = onboarding.configuration_faults("", "no_domain", "x" * 251)
    assert [fault.field for fault in faults] == ["name", "description", "domain"]
    assert onboarding.configuration_faults("n", "Acme.Example", "") == ()


def test_what_the_verifier_sees_now_decides() -> None:
    """DMARC that is published is fine and stays as it is; a rotation's key and the return path are told beside."""
    told = RecordsSeen(
        configuration="c", domain="acme.example", spf=seen("fail", "v=spf1 mx ~all"), dkim=seen("pass", "v=DKIM1; p=x"),
        dmarc=seen("pass", "v=DMARC1; p=reject"), spf_to_publish="v=spf1 mx include:spf.relay.example ~all",
        spf_lookups=1, return_path=seen("fail", "."), next_dkim=seen("fail"),
    )  # fmt: skip
    rotating = msgspec.structs.replace(
        CONFIGURATION, next_key=PublishedKey(selector="s2", value="v=DKIM1; p=y", since=NOW)
    )
    records = record_advice.from_verifier(rotating, told, ["dns@acme.example"])
    assert [(r.kind, r.state, r.required) for r in records] == [
        ("dkim", "fine", True), ("dkim-next", "missing", False), ("spf", "wrong", True), ("dmarc", "fine", False),
        ("return-path", "wrong", False),
    ]  # fmt: skip
    assert records[1].name == "s2._domainkey.acme.example"
    assert records[2].value == "v=spf1 mx include:spf.relay.example ~all"
    assert records[3].value == "v=DMARC1; p=reject"


def test_a_delegated_domain_publishes_aliases() -> None:
    """Two CNAMEs into the operator's zone: for the key in use, and for the next rotation."""
    delegated = msgspec.structs.replace(
        CONFIGURATION, dkim_delegated=True, dkim_zone="dkim.relay.example", spare_selector="t"
    )
    records = record_advice.from_standing(delegated, None)
    assert [(r.kind, r.type, r.value) for r in records][:2] == [
        ("dkim", "CNAME", "s.dkim.relay.example."), ("dkim-spare", "CNAME", "t.dkim.relay.example."),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "domain",
    ["example", "example.com.", "192.0.2.1", "user@example.com", "-a.example", "mx.local", "x.onion", "a b.com"],
)
def test_a_refused_domain_is_explained(domain: str) -> None:
    """The rules are told with the fault: what to give, and that a sub-domain stands for itself."""
    (fault,) = onboarding.configuration_faults("n", domain, "")
    assert fault.code == "invalid_domain"
    assert "A sub-domain is a domain of its own" in fault.message


@pytest.mark.parametrize("domain", ["example.com", "mail.example.com", "bücher.example", "xn--bcher-kva.example"])
def test_domains_and_sub_domains_of_any_script_are_taken(domain: str) -> None:
    """What can have records may have a configuration."""
    assert onboarding.configuration_faults("n", domain, "") == ()
