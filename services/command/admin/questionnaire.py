"""The authorization questionnaire at the command line: a file to fill in, or question by question."""

import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from services.command.admin.exits import INVALID, failure
from shared.contract.questions import AFFIRMATIONS, HTML_QUESTION, QUESTIONS

EVIDENCE_CHARACTERS = 4000
"""Of one text, as the API takes them."""
EXAMPLE = """\
# Answers to the authorization questionnaire. Hand it in with
#   postlane domain authorize DOMAIN --from-file answers.toml
nature = "transactional"            # or "marketing"
website = "https://www.example.com/"
list_source = ""              # how do you obtain your list of recipients?
bounces_and_complaints = ""   # how do you manage bounced mail and complaints?
unsubscribe = ""              # how can recipients unsubscribe?
quota_rationale = ""          # how did you determine the sending rate you ask for?
list_cleaning = ""            # how and how often do you clean the list?
contacts = ["postmaster@example.com"]   # one to four, for account-related communications
reply_to = "bounces@example.com"        # receives information on rejected or bounced mail
only_to_requesters = false    # true: mail goes only to people who asked for it
unsubscribe_link = false      # true: the mail has an unsubscribe link
html_validation = ""          # if you send HTML: how do you validate it?
evidence = []                 # links, if you have any
"""


def read(file: Path) -> dict[str, Any]:
    """Return the answers of a file; ends the command with the reason if it cannot be read."""
    try:
        return tomllib.loads(file.read_text())
    except OSError as fault:
        raise failure(INVALID, f"cannot read {file}: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise failure(INVALID, f"{file} is not TOML: {fault}") from fault


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def asked(ask: Callable[..., str] = typer.prompt, agree: Callable[..., bool] = typer.confirm) -> dict[str, Any]:
    """Ask every question; return the answers."""
    answers: dict[str, Any] = {
        "nature": "marketing" if agree("Is it marketing mail?", default=False) else "transactional"
    }
    answers |= {name: ask(question) for name, question in QUESTIONS.items()}
    contacts = ask("Up to four addresses for account-related communications, separated by commas")
    answers["contacts"] = [part.strip() for part in contacts.split(",") if part.strip()]
    answers |= {name: agree(f"{wording}. Do you agree?") for name, wording in AFFIRMATIONS.items()}
    answers["html_validation"] = ask(f"{HTML_QUESTION} (may be empty)", default="")
    links = ask("Links to evidence, separated by spaces (may be empty)", default="")
    answers["evidence"] = links.split()
    return answers


def with_evidence(answers: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """Add small text files to the evidence, each with its name; anything else belongs behind a link."""
    texts = []
    for file in files:
        try:
            text = f"{file.name}:\n{file.read_text()}"
        except OSError as fault:
            raise failure(INVALID, f"cannot read {file}: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise failure(
                INVALID, f"{file} is not text: put it where the operator can read it, and give a link"
            ) from fault
        if len(text) > EVIDENCE_CHARACTERS:
            raise failure(
                INVALID, f"{file} has more than {EVIDENCE_CHARACTERS} characters: put it somewhere, and give a link"
            )
        texts.append(text)
    present = answers.get("evidence", [])
    return answers | {"evidence": [*present, *texts]} if texts else answers
