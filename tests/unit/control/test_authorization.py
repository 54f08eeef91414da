"""The questionnaire: every fault at once, and what a good one becomes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.core.authorization import FIELDS, check

GOOD: dict[str, Any] = {
    "nature": "transactional",
    "website": "https://acme.example/",
    "list_source": "Registered users",
    "bounces_and_complaints": "Removed at once",
    "unsubscribe": "In the application",
    "quota_rationale": "Ten a day for each user",
    "list_cleaning": "Weekly",
    "contacts": ["a@acme.example", "b@acme.example"],
    "reply_to": "bounces@acme.example",
    "only_to_requesters": True,
    "unsubscribe_link": True,
}


def test_a_complete_questionnaire_is_kept_as_answered() -> None:
    """Answers are kept; what may be left out is empty."""
    questionnaire, faults = check(GOOD)
    assert faults == ()
    assert questionnaire is not None
    assert questionnaire.contacts == ("a@acme.example", "b@acme.example")
    assert questionnaire.evidence == ()


def test_an_empty_questionnaire_lists_every_question() -> None:
    """Nobody answers one question per try."""
    questionnaire, faults = check({})
    assert questionnaire is None
    assert {fault.field for fault in faults} == FIELDS - {"html_validation", "evidence"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nature", "spam"),
        ("website", "acme.example"),
        ("website", "ftp://acme.example"),
        ("website", "https://[::1"),
        ("list_source", "  "),
        ("list_source", 3),
        ("list_cleaning", "x" * 4001),
        ("contacts", []),
        ("contacts", ["a@acme.example"] * 5),
        ("contacts", ["nobody"]),
        ("contacts", "a@acme.example"),
        ("contacts", [""]),
        ("reply_to", "nobody"),
        ("only_to_requesters", False),
        ("unsubscribe_link", "yes"),
        ("html_validation", 1),
        ("evidence", "x"),
        ("evidence", ["x" * 4001]),
        ("evidence", ["x"] * 11),
        ("evidence", ["data:application/pdf;base64,JVBERi0="]),
        ("evidence", ["file:///etc/passwd"]),
        ("evidence", ["https://two.example links.example"]),
        ("surprise", "x"),
    ],
)
def test_each_wrong_answer_is_named(field: str, value: Any) -> None:
    """One wrong answer gives faults of its field and of no other."""
    questionnaire, faults = check(GOOD | {field: value})
    assert questionnaire is None
    assert {fault.field for fault in faults} == {field}


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.none() | st.booleans() | st.text() | st.lists(st.text())))
def test_any_answers_are_judged_without_an_exception(answers: dict[str, Any]) -> None:
    """There is a questionnaire or there are faults, never both."""
    questionnaire, faults = check(answers)
    assert (questionnaire is None) == bool(faults)


def test_evidence_is_links_and_short_texts() -> None:
    """Both are kept as they are."""
    evidence = ["https://acme.example/policy.pdf", "policy.txt:\nWe delete what bounces: always."]
    questionnaire, faults = check(GOOD | {"evidence": evidence})
    assert faults == ()
    assert questionnaire is not None
    assert questionnaire.evidence == tuple(evidence)
