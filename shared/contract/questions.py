"""The questionnaire in words, as every form asks it; the answers are `records.Questionnaire`."""

QUESTIONS: dict[str, str] = {
    "website": "URL of your website",
    "list_source": "How do you obtain your list of recipients?",
    "bounces_and_complaints": "How do you manage bounced mail and complaints?",
    "unsubscribe": "How can recipients unsubscribe?",
    "quota_rationale": "How did you determine the sending rate you ask for?",
    "list_cleaning": "How and how often do you clean the list?",
    "reply_to": "Which mailbox receives information on rejected or bounced mail?",
}
HTML_QUESTION = "If you send HTML: how do you validate it?"
"""Of `html_validation`; the only answer that may be left out."""
AFFIRMATIONS: dict[str, str] = {
    "only_to_requesters": "Mail goes only to people who asked for it, and bounces and complaints are dealt with",
    "unsubscribe_link": "You put an unsubscribe link into the mail, whatever its nature",
}
