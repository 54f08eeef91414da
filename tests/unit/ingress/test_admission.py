"""The gates: the stricter of operator and DNS wins, and whoever is refused is told what is missing."""

import datetime

import pytest

from services.ingress.core import admission
from services.ingress.core.admission import Account, Admitted, Gates
from services.ingress.core.quota import Rates
from services.ingress.core.refusal import Refusal
from shared.contract.records import Authorization, Configuration, Password, Questionnaire, Suspension, User
from shared.contract.standing import Observation, Standing, StandingState
from shared.mail import reply

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
QUESTIONS = Questionnaire(
    nature="transactional", website="w", list_source="l", bounces_and_complaints="b", unsubscribe="u",
    quota_rationale="q", list_cleaning="c", contacts=("a@x.example",), reply_to="a@x.example",
    only_to_requesters=True, unsubscribe_link=True,
)  # fmt: skip


def configuration(name: str = "c", when_suspended: str = "hold") -> Configuration:
    """Make a configuration with the domain `<name>.example`."""
    return Configuration(
        id=name, instance="i", name=name, domain=f"{name}.example", selector="s", dkim_value="", spf_value="",
        created_at=AT, updated_at=AT, when_suspended=when_suspended,  # type: ignore[arg-type]
    )  # fmt: skip


def standing(state: StandingState) -> Standing:
    """Make a standing with a failing SPF record."""
    seen = Observation(verdict="fail", detail="no SPF record at c.example", name="c.example", at=AT)
    return Standing(configuration="c", instance="i", domain="c.example", state=state, reason="", since=AT, spf=seen)


def authorization(status: str) -> Authorization:
    """Make an authorization for the marketing lane at 100 messages an hour."""
    return Authorization(
        configuration="c", instance="i", status=status, questionnaire=QUESTIONS, submitted_at=AT,  # type: ignore[arg-type]
        lane="marketing", messages_per_hour=100, reason="too vague",
    )  # fmt: skip


def user(name: str, *hashes: str, expires_at: datetime.datetime | None = None) -> User:
    """Make a user with passwords of these hashes."""
    passwords = tuple(Password(id=each, hash=each, created_at=AT, expires_at=expires_at) for each in hashes)
    return User(
        id=name, instance="i", configuration="c", username=name, passwords=passwords, created_at=AT, updated_at=AT
    )


@pytest.mark.parametrize(
    ("state", "status", "suspended", "when_suspended", "outcome"),
    [
        ("verified", "approved", False, "hold", "open"),
        ("degraded", "approved", False, "hold", "open"),
        ("suspended", "approved", False, "hold", "held"),
        ("suspended", "approved", False, "refuse", "is suspended: SPF: no SPF record at c.example"),
        ("pending", "approved", False, "hold", "is not open yet: SPF: no SPF record at c.example"),
        (None, "approved", False, "hold", "try again soon: SPF and DKIM records have not been checked yet"),
        (None, "submitted", False, "hold", "have not been checked yet; the operator has not approved sending yet"),
        ("verified", "submitted", False, "hold", "is not open yet: the operator has not approved sending yet"),
        ("verified", "rejected", False, "hold", "is not open yet: the operator has rejected sending: too vague"),
        ("verified", None, False, "hold", "the authorization questionnaire has not been submitted"),
        ("suspended", None, False, "hold", "the authorization questionnaire has not been submitted"),
        ("verified", "approved", True, "hold", "is suspended by the operator: abuse"),
        ("suspended", "approved", True, "hold", "is suspended by the operator: abuse"),
        (None, None, True, "hold", "is suspended by the operator: abuse"),
    ],
)
def test_gates(
    state: StandingState | None, status: str | None, suspended: bool, when_suspended: str, outcome: str
) -> None:
    """Each combination of standing, authorization and suspension has one outcome."""
    gates = Gates(
        standing(state) if state else None,
        authorization(status) if status else None,
        Suspension(configuration="c", reason="abuse", by="op", at=AT) if suspended else None,
    )
    found = admission.gate(configuration(when_suspended=when_suspended), gates)
    if outcome in ("open", "held"):
        held = outcome == "held"
        assert found == Admitted("marketing", held, Rates(per_hour=100), held_since=AT if held else None)
    else:
        assert isinstance(found, Refusal)
        ours = state is None and status == "approved" and not suspended  # the verifier has not come to it
        assert (found.reply.code, found.reply.enhanced) == ((451, "4.7.1") if ours else (550, "5.7.1"))
        assert outcome in found.reply.text
        assert (found.instance, found.configuration) == ("i", "c")


def test_reference_always_fits() -> None:
    """However long the explanation is, the reply keeps its reference."""
    long = Gates(None, None, Suspension(configuration="c", reason="x" * 2000, by="op", at=AT))
    found = admission.gate(configuration(), long)
    assert isinstance(found, Refusal)
    assert str(found.reply.referring("R-0123456789")).endswith("(ref R-0123456789)")


def test_domain_selects_the_configuration() -> None:
    """Of a shared username's configurations the one with the sender's domain is taken, and no sub-domain."""
    accounts = [Account(user("u", "h"), configuration(name)) for name in ("a", "b")]
    assert admission.select(accounts, "b.example") is accounts[1]
    assert admission.select(accounts, "sub.b.example") is None
    refusal = admission.sender_refused(accounts, "z.example")
    assert "z.example" in refusal.reply.text
    assert "a.example" not in refusal.reply.text


def test_withdrawn_passwords() -> None:
    """A login counts only as long as the password it was made with is live."""
    account = Account(user("u", "h1", "h2"), configuration())
    expired = Account(user("v", "h1", expires_at=AT), configuration())
    assert admission.still_valid([account, expired], frozenset({"h1"}), AT) == (account,)
    assert admission.still_valid([account], frozenset({"h3"}), AT) == ()


@pytest.mark.parametrize(
    ("unread", "allowed_is_open", "refused_is_open"),
    [((), False, False), (("authorization", "standing"), False, True), (("suspension",), True, True)],
)
def test_what_cannot_be_read_may_decide_otherwise(
    unread: tuple[str, ...], allowed_is_open: bool, refused_is_open: bool
) -> None:
    """Nobody is refused for good, or let in past a suspension, by half of what is known."""
    assert admission.is_open(Admitted("transactional"), unread) is allowed_is_open
    assert admission.is_open(Refusal(reply.SENDER_NOT_ALLOWED, "x"), unread) is refused_is_open
