"""The questionnaire as a form: what is asked, and a form's fields as the API takes them."""

from typing import Any

QUESTIONS = {
    "website": "URL of your website",
    "list_source": "How do you obtain your list of recipients?",
    "bounces_and_complaints": "How do you manage bounced mail and complaints?",
    "unsubscribe": "How can recipients unsubscribe?",
    "quota_rationale": "How did you determine the sending rate you ask for?",
    "list_cleaning": "How and how often do you clean the list?",
    "reply_to": "Which mailbox receives information on rejected or bounced mail?",
    "html_validation": "If you send HTML: how do you validate it?",
}
AFFIRMED = ("only_to_requesters", "unsubscribe_link")


def answers_of(form: dict[str, str]) -> dict[str, Any]:
    """Return a form's answers; the API says what is wrong with them."""
    return {
        "nature": form.get("nature", ""),
        **{name: form.get(name, "").strip() for name in QUESTIONS},
        **{name: form.get(name) == "yes" for name in AFFIRMED},
        "contacts": form.get("contacts", "").replace(",", " ").split(),
        "evidence": [line.strip() for line in form.get("evidence", "").splitlines() if line.strip()],
    }
