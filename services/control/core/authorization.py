"""The questionnaire a customer answers before an operator authorises sending. Every fault is listed at once."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from services.control.core.fault import Fault
from shared.contract.records import Questionnaire
from shared.mail.address import Fault as AddressFault
from shared.mail.address import parse_address

ANSWER_LENGTH = 4000
CONTACTS = 4
EVIDENCE = 10

_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*://|data:|file:)", re.IGNORECASE)

QUESTIONS: dict[str, str] = {
    "list_source": "What is your strategy for obtaining your list of recipients?",
    "bounces_and_complaints": "How do you manage bounced mail and complaints of recipients?",
    "unsubscribe": "How can recipients unsubscribe?",
    "quota_rationale": "How did you determine the sending rate you ask for?",
    "list_cleaning": "How and how often do you clean the list of invalid addresses?",
}
"""Questions that are answered in words."""
# The link is demanded of transactional mail too, as the product does (its question 7 knows no exception).
AFFIRMATIONS: dict[str, str] = {
    "only_to_requesters": "affirm that mail goes only to people who asked for it, and that bounces and complaints are "
    "dealt with",
    "unsubscribe_link": "agree to put an unsubscribe link into the mail",
}
FIELDS = frozenset(
    {"nature", "website", "contacts", "reply_to", "html_validation", "evidence", *QUESTIONS, *AFFIRMATIONS}
)


def check(answers: Mapping[str, object]) -> tuple[Questionnaire | None, tuple[Fault, ...]]:
    """Return the questionnaire, or None with everything that is wrong with it."""
    faults: list[Fault] = [
        Fault("unknown_field", f"{name} is not a question; known are {', '.join(sorted(FIELDS))}", name)
        for name in sorted(answers.keys() - FIELDS)
    ]
    nature = answers.get("nature")
    if nature not in ("marketing", "transactional"):
        faults.append(Fault("invalid_answer", 'nature must be "marketing" or "transactional"', "nature"))
    texts = {name: _text(answers, name, question, faults) for name, question in QUESTIONS.items()}
    website = _text(answers, "website", "What is the URL of your website?", faults)
    if website and not _is_url(website):
        faults.append(Fault("invalid_answer", "website must be a URL such as https://www.example.com", "website"))
    for name, wording in AFFIRMATIONS.items():
        if answers.get(name) is not True:
            faults.append(Fault("affirmation_missing", f"{name} must be true: you {wording}", name))
    contacts = _contacts(answers, faults)
    reply_to = _text(answers, "reply_to", "Which mailbox receives information on bounced mail?", faults)
    if reply_to:
        faults += _address_faults("reply_to", reply_to)
    html = answers.get("html_validation", "")
    if not isinstance(html, str) or len(html) > ANSWER_LENGTH:
        faults.append(
            Fault("invalid_answer", f"html_validation is a text of at most {ANSWER_LENGTH} characters",
                  "html_validation")
        )  # fmt: skip
    evidence = _evidence(answers, faults)
    if faults:
        return None, tuple(faults)
    return Questionnaire(
        nature="marketing" if nature == "marketing" else "transactional",
        website=website,
        contacts=contacts,
        reply_to=reply_to,
        only_to_requesters=True,
        unsubscribe_link=True,
        html_validation=str(html).strip(),
        evidence=evidence,
        **texts,
    ), ()


def _text(answers: Mapping[str, object], name: str, question: str, faults: list[Fault]) -> str:
    value = answers.get(name)
    if not isinstance(value, str) or not value.strip():
        faults.append(Fault("answer_missing", f"{name} must be answered in words: {question}", name))
        return ""
    if len(value) > ANSWER_LENGTH:
        faults.append(Fault("invalid_length", f"{name} must have at most {ANSWER_LENGTH} characters", name))
    return value.strip()


def _texts(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    found = tuple(item.strip() for item in value if isinstance(item, str) and 0 < len(item) <= ANSWER_LENGTH)
    return found if len(found) == len(value) else None


def _evidence(answers: Mapping[str, object], faults: list[Fault]) -> tuple[str, ...]:
    """Return links and texts. Files are not kept: the directory is in the memory of every room."""
    evidence = _texts(answers.get("evidence", []))
    if evidence is None or len(evidence) > EVIDENCE:
        told = f"evidence is a list of at most {EVIDENCE} links or texts, each of at most {ANSWER_LENGTH} characters"
        faults.append(
            Fault("invalid_answer", f"{told}; put larger things where they can be read, and link them", "evidence")
        )
        return ()
    for item in evidence:
        link = _SCHEME.match(item)
        if link and (len(item.split()) > 1 or not _is_url(item)):
            told = f"evidence: {item[:60]!r} is not a link to read (https://…); files are not kept, link them"
            faults.append(Fault("invalid_answer", told, "evidence"))
    return evidence


def _contacts(answers: Mapping[str, object], faults: list[Fault]) -> tuple[str, ...]:
    contacts = _texts(answers.get("contacts"))
    if contacts is None or not 1 <= len(contacts) <= CONTACTS:
        faults.append(
            Fault("invalid_answer", f"contacts is a list of one to {CONTACTS} mail addresses", "contacts")
        )  # fmt: skip
        return ()
    for contact in contacts:
        faults += _address_faults("contacts", contact)
    return contacts


def _address_faults(field: str, text: str) -> list[Fault]:
    address = parse_address(text)
    if isinstance(address, AddressFault):
        return [Fault("invalid_address", f"{field}: {text!r} is not a mail address: {address.reason}", field)]
    return []


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in text
