"""The questionnaire as a form: what is asked, and a form's fields as the API takes them."""

from typing import Any

from shared.contract.questions import AFFIRMATIONS, HTML_QUESTION, QUESTIONS

ASKED = QUESTIONS | {"html_validation": HTML_QUESTION}


def answers_of(form: dict[str, str]) -> dict[str, Any]:
    """Return a form's answers; the API says what is wrong with them."""
    return {
        "nature": form.get("nature", ""),
        **{name: form.get(name, "").strip() for name in ASKED},
        **{name: form.get(name) == "yes" for name in AFFIRMATIONS},
        "contacts": form.get("contacts", "").replace(",", " ").split(),
        "evidence": [line.strip() for line in form.get("evidence", "").splitlines() if line.strip()],
    }
