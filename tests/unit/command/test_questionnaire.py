"""The questionnaire at the command line."""

from pathlib import Path
from typing import Any

import pytest
import typer

from services.command.admin import questionnaire
from services.control.core.authorization import check


def test_question_by_question_gives_what_the_api_takes() -> None:
    """Every question of the form is asked, and the answers are a questionnaire."""
    said = {
        "URL of your website": "https://acme.example/",
        "Which mailbox receives information on rejected or bounced mail?": "bounces@acme.example",
        "Up to four addresses for account-related communications, separated by commas": "a@acme.example,b@acme.example",
        "Links to evidence, separated by spaces (may be empty)": "https://acme.example/a https://acme.example/b",
    }

    def ask(question: str, **_: Any) -> str:
        return said.get(question, "As usual")

    answers = questionnaire.asked(ask, lambda question, **_: not question.startswith("Is it marketing"))
    form, faults = check(answers)
    assert faults == ()
    assert form is not None
    assert (form.nature, form.contacts) == ("transactional", ("a@acme.example", "b@acme.example"))
    assert len(form.evidence) == 2


def test_small_text_files_are_evidence_and_others_belong_behind_a_link(tmp_path: Path) -> None:
    """Binary and large files are refused with what to do instead."""
    small, large, binary = (tmp_path / name for name in ("policy.txt", "large.txt", "policy.pdf"))
    small.write_text("We delete what bounces.")
    large.write_text("x" * 4001)
    binary.write_bytes(b"%PDF-1.7\xff\xfe")
    answers = questionnaire.with_evidence({"evidence": ["https://acme.example/"]}, [small])
    assert answers["evidence"] == ["https://acme.example/", "policy.txt:\nWe delete what bounces."]
    for file in (large, binary, tmp_path / "nowhere"):
        with pytest.raises(typer.Exit):
            questionnaire.with_evidence({}, [file])
